"""Models behind Triton, or whatever else speaks KServe's protocol of tensors, over gRPC.

A third level for the reason that ``server/llm/openai`` gives.
"""
