"""Where a call goes, from the base address in the settings. Pure."""

import re
from typing import Final
from urllib.parse import urlsplit, urlunsplit

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
