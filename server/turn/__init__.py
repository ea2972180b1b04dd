"""The life of a turn: the order of its stations, its events, its lane, its delivery."""
