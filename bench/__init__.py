"""Measures this project against the thinnest programs that do the same (``make bench``)."""
