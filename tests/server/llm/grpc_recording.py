"""Recorded streams of gRPC servers: each message behind its length, four bytes, big-endian."""

from pathlib import Path

FOLDER = Path(__file__).parents[2] / "data/recordings/grpc"


def load(name: str) -> list[bytes]:
    raw = (FOLDER / f"{name}.lenpb").read_bytes()
    messages = []
    while raw:
        size = int.from_bytes(raw[:4], "big")
        messages.append(raw[4 : 4 + size])
        raw = raw[4 + size :]
    return messages
