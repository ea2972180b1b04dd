"""Addresses of electronic mail."""

import re
from typing import Final

from server.filter.pii.kinds import Finding, PiiKind
from server.filter.pii.rule import Rule

_LOCAL: Final = r"[A-Za-z0-9._%+\-]"
_DOMAIN: Final = r"[A-Za-z0-9.\-]"
MAX_LOCAL: Final = 64
MAX_DOMAIN: Final = 96

_ASSETS: Final = frozenset(
    [
        "png",
        "jpg",
        "jpeg",
        "gif",
        "webp",
        "svg",
        "bmp",
        "ico",
        "avif",
        "heic",
        "css",
        "js",
        "mjs",
        "ts",
        "jsx",
        "tsx",
        "json",
        "yaml",
        "yml",
        "xml",
        "html",
        "txt",
        "pdf",
        "woff",
        "woff2",
        "ttf",
        "mp3",
        "mp4",
        "wav",
        "apk",
        "ipa",
        "exe",
        "dll",
        "jar",
        "war",
        "tgz",
        "gz",
        "tar",
        "whl",
        "lock",
        "log",
        "map",
    ]
)
"""Ends of file names, none of them a top-level domain: ``logo@3x.webp``."""

_IN_ADDRESS: Final = re.compile(r"://[^\s/@]{0,60}\Z", re.ASCII)


def _email(match: "re.Match[str]") -> Finding | None:
    local, _, domain = match.group().partition("@")
    labels = domain.split(".")
    if len(labels) < 2 or any(not label or label[0] == "-" or label[-1] == "-" for label in labels):
        return None
    if labels[-1].lower() in _ASSETS or ".." in local or local[-1] == ".":
        return None
    # ``https://user:password@host``: what stands there is no mailbox.
    if _IN_ADDRESS.search(match.string, max(0, match.start() - 64), match.start()):
        return None
    return Finding(PiiKind.EMAIL, match.start(), match.end())


EMAIL: Final = Rule(
    PiiKind.EMAIL,
    rf"(?<![A-Za-z0-9_])[A-Za-z0-9_]{_LOCAL}{{0,{MAX_LOCAL - 1}}}"
    rf"@{_DOMAIN}{{1,{MAX_DOMAIN}}}\.[A-Za-z]{{2,18}}(?![A-Za-z0-9@_%+-]|\.{_LOCAL}{{0,{MAX_LOCAL}}}@)",
    _email,
    tail=rf"(?<![A-Za-z0-9_])[A-Za-z0-9_]{_LOCAL}{{0,{MAX_LOCAL - 1}}}"
    rf"(?:@{_DOMAIN}{{0,{MAX_DOMAIN + 20}}}(?:\.{_LOCAL}{{0,{MAX_LOCAL}}})?)?",
    reach=2 * MAX_LOCAL + MAX_DOMAIN + 26,
)
