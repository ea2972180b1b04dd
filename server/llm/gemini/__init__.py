"""Gemini, over HTTP and over gRPC. A third level for the reason that ``server/llm/openai`` gives."""
