"""vLLM and SGLang over gRPC: engines that speak tokens, so template and tokeniser run here, in a process of their own.

A third level for the reason that ``server/llm/openai`` gives.
"""
