"""Anthropic's Messages, over HTTP. A third level for the reason that ``server/llm/openai`` gives."""
