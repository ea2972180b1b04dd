"""A local WeCom: callbacks, REST, the long connection, and a chat page, with faults at will.

``simulator.app.Simulator`` is the front door for tests, ``python -m simulator`` for people.
It shares the envelope and the wire forms with the adapter and nothing else, so that a
mistake in the adapter's reading of a rule is not repeated here.
"""
