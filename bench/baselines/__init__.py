"""The thinnest programs that do a part of what the product does, to compare it with."""
