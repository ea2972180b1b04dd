"""Which model answers: intents, splits, keys, limits, breakers, and the next one when one fails.

A backend (``server/llm``) makes one call; everything that is decided around a call is
decided here.
"""
