"""What every program of this repository does at its edges, and nothing about conversations.

A settings file, log lines, an operations port, a clean stop. A leaf: it imports none of
the programs, and knows none of them.
"""
