"""Addresses of machines."""

import ipaddress
import re
from typing import Final

from server.filter.pii.kinds import Finding, PiiKind
from server.filter.pii.rule import Cue, Rule

_VERSION: Final = Cue(r"版本?|版本号|第|version|ver\.?|release|(?<![A-Za-z])v\.?", r" ?[:=]? ?", reach=16)


def _ipv4(match: "re.Match[str]") -> Finding | None:
    if any(int(part) > 255 or (len(part) > 1 and part[0] == "0") for part in match.group().split(".")):
        return None
    if _VERSION.before(match.string, match.start()):
        return None
    return Finding(PiiKind.IP, match.start(), match.end(), 0.9)


def _ipv6(match: "re.Match[str]") -> Finding | None:
    value = match.group()
    try:
        ipaddress.IPv6Address(value)
    except ValueError:
        return None
    # ``dead::beef`` may be a name in a program; an address of a person's machine is longer.
    if sum(1 for part in value.split(":") if part) < 3:
        return None
    return Finding(PiiKind.IP, match.start(), match.end(), 0.9)


def _mac(match: "re.Match[str]") -> Finding | None:
    return Finding(PiiKind.MAC, match.start(), match.end())


IPV4: Final = Rule(
    PiiKind.IP,
    r"(?<![\d.A-Za-z_-])(?:\d{1,3}\.){3}\d{1,3}(?![A-Za-z0-9_]|\.\d|[版节章])",
    _ipv4,
    tail=r"(?<![\d.A-Za-z_-])\d[\d.]{0,16}",
    reach=17,
)
IPV6: Final = Rule(
    PiiKind.IP,
    r"(?<![0-9A-Za-z:.])[0-9A-Fa-f:]{2,39}(?![0-9A-Za-z:])",
    _ipv6,
    tail=r"(?<![0-9A-Za-z:.])[0-9A-Fa-f:]{1,40}",
    reach=40,
)
MAC: Final = Rule(
    PiiKind.MAC,
    r"(?<![0-9A-Za-z:-])[0-9A-Fa-f]{2}(?P<separator>[:-])(?:[0-9A-Fa-f]{2}(?P=separator)){4}[0-9A-Fa-f]{2}(?![0-9A-Za-z:-])",
    _mac,
    tail=r"(?<![0-9A-Za-z:-])[0-9A-Fa-f:-]{1,18}",
    reach=18,
)
