"""Recorded answers of real and mock model servers: raw bytes, as they came over the wire."""

from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parents[2] / "data/recordings/http"


class Recording(NamedTuple):
    raw: bytes
    status: int
    headers: dict[str, str]
    body: bytes
    """Without the chunk lengths."""
    whole: bool
    """Whether the body came to its end as HTTP counts it."""


def load(name: str) -> Recording:
    raw = (FOLDER / f"{name}.http").read_bytes()
    head, _, rest = raw.partition(b"\r\n\r\n")
    status_line, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body, whole = _dechunk(rest)
    else:
        body, whole = rest, len(rest) == int(headers.get("content-length", len(rest)))
    return Recording(raw, int(status_line.split()[1]), headers, body, whole)


def _dechunk(rest: bytes) -> tuple[bytes, bool]:
    body = bytearray()
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return bytes(body), True
        body += rest[:length]
        rest = rest[length + 2 :]
    return bytes(body), False
