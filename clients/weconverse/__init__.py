"""Conversations with large language models, over the gRPC contract of WeConverse."""
