"""Any server with OpenAI-style chat completions, and its forms for several prompts at once.

A third level, because a vendor's family of files is one subject: its request, its shapes, its stream, its backend.
"""
