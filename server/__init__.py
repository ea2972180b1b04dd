"""The conversation service: owns memory, caching, durable turns and model calls; knows no chat product."""
