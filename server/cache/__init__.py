"""Replies that are given again: the key, the store of replies, and asks that share one model call."""
