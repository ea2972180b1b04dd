"""Where a call goes, from the base address in the settings. Pure."""

import re
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from program.binding import is_loopback

_VERSION: Final = re.compile(r"v\d+[a-z0-9]*")


def call_address(base_url: str, version: str, path: str, query: str = "") -> str:
    """The address of a call below a base address.

    Args:
        base_url: with the version of the interface as its last segment or without: vendors
            and their own programs write it either way. A query behind it is kept.
        version: put in where there is none, such as ``v1``.
        path: of the call, without a slash in front, quoted.
        query: of the call, behind that of the base address.
    """
    parts = urlsplit(base_url)
    base = parts.path.rstrip("/")
    if not _VERSION.fullmatch(base.rpartition("/")[2]):
        base += f"/{version}"
    queries = "&".join(part for part in (parts.query, query) if part)
    return urlunsplit(parts._replace(path=f"{base}/{path}", query=queries, fragment=""))


_CALLS: Final = ("/chat/completions", "/messages", "/embeddings", "/audio/transcriptions")
"""What vendors' pages show behind the address, so that it is copied along."""


def check_base_url(address: str) -> None:
    """Raises :class:`ValueError`, beginning with ``base_url:``, for what is no base address."""
    try:
        parts = urlsplit(address)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole:
        raise ValueError(
            "base_url: must begin with http:// or https:// and name a host, such as https://api.example.com/v1"
        )
    if parts.username is not None or parts.password is not None:
        raise ValueError("base_url: must not hold a user or password, which logs would show; the key goes into api_key")
    for call in _CALLS:
        if parts.path.rstrip("/").endswith(call):
            raise ValueError(f"base_url: must end before {call}, which each call adds; leave that out")


def check_secrecy(address: str, *, plain_http: bool) -> None:
    """Raises :class:`ValueError` where a key would be readable on its way to another machine.

    Args:
        address: that :func:`check_base_url` has passed.
        plain_http: the operator's word that the network is closed.
    """
    parts = urlsplit(address)
    if parts.scheme != "http" or plain_http:
        return
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    if not is_loopback(f"{host}:{parts.port or 80}"):
        raise ValueError(
            f"base_url: {parts.hostname} is not on this machine, and the key would travel in plain text; use https://, "
            "or set plain_http = true if the network is closed"
        )
