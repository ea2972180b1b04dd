"""Personal data: found, masked, or given names for, on its way to a model and back.

A third level, because it shares nothing with the word lists but the room: own recognisers, own streams, own values.
"""
