"""What opens something: keys by their makers' prefixes, private keys, passwords behind a cue word."""

import re
from typing import Final

from server.filter.pii.kinds import Finding, PiiKind
from server.filter.pii.rule import Check, Cue, Rule, begun

MAX_KEY: Final = 512
MAX_PASSWORD: Final = 128
MAX_PRIVATE_KEY: Final = 8192
"""Characters between the first and the last line of a private key; one of 8,192 bits has 6,400."""

_KEY_CHARACTER: Final = r"[A-Za-z0-9_\-]"


def _found(confidence: float) -> Check:
    return lambda match: Finding(PiiKind.SECRET, match.start(), match.end(), confidence)


PREFIXED_KEY: Final = Rule(
    PiiKind.SECRET,
    r"(?<![A-Za-z0-9_-])(?:sk-(?:[a-z]{2,10}-){0,2}[A-Za-z0-9][A-Za-z0-9_-]{15,200}|(?:AKIA|ASIA)[A-Z0-9]{16}|AKID[A-Za-z0-9]{32}"
    r"|LTAI[A-Za-z0-9]{12,26}|AIza[A-Za-z0-9_-]{35}|gh[opsur]_[A-Za-z0-9]{36,80}|github_pat_[A-Za-z0-9_]{40,100}"
    r"|glpat-[A-Za-z0-9_-]{20,60}|xox[abeprs]-[A-Za-z0-9-]{10,120}|(?:sk|rk)_live_[A-Za-z0-9]{16,120}|hf_[A-Za-z0-9]{30,60}"
    r"|xai-[A-Za-z0-9]{40,120}|gsk_[A-Za-z0-9]{40,80}|npm_[A-Za-z0-9]{36})(?![A-Za-z0-9_-])",
    _found(1.0),
    tail=rf"(?<![A-Za-z0-9_-]){_KEY_CHARACTER}{{1,240}}",
    reach=240,
)

WEB_TOKEN: Final = Rule(
    PiiKind.SECRET,
    rf"(?<![A-Za-z0-9_-])eyJ{_KEY_CHARACTER}{{10,{MAX_KEY}}}\.eyJ{_KEY_CHARACTER}{{10,{MAX_KEY}}}"
    rf"\.{_KEY_CHARACTER}{{10,{MAX_KEY}}}(?!{_KEY_CHARACTER})",
    _found(1.0),
    tail="(?<![A-Za-z0-9_-])" + begun("eyJ", rf"[A-Za-z0-9_.\-]{{0,{3 * MAX_KEY + 9}}}"),
    reach=3 * MAX_KEY + 12,
)

PRIVATE_KEY: Final = Rule(
    PiiKind.SECRET,
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    rf"[A-Za-z0-9+/=\\\s:,.]{{1,{MAX_PRIVATE_KEY}}}(?:-----END [A-Z0-9 ]{{0,60}}-----)?",
    _found(1.0),
    tail=begun(
        "-----BEGIN ",
        rf"[A-Z0-9 ]{{0,60}}(?:-{{1,4}}|-----[A-Za-z0-9+/=\\\s:,.]{{0,{MAX_PRIVATE_KEY}}}"
        r"(?:-{1,4}|-----[A-Z0-9 ]{0,68}-{0,5})?)?",
    ),
    reach=MAX_PRIVATE_KEY + 256,
)

_PASSWORD_CUE: Final = Cue(
    r"(?:密码|密碼|口令|password|passwd|pwd|passcode|secret|api_?-?key|access_?-?key|token)",
    r"(?:是|为|[\"']? ?[:=]) ?[\"'`“「]?",
    reach=28,
)
_PLACEHOLDERS: Final = frozenset(
    [
        "required",
        "optional",
        "null",
        "none",
        "nil",
        "true",
        "false",
        "string",
        "empty",
        "undefined",
        "incorrect",
        "wrong",
        "invalid",
        "expired",
        "reset",
        "changeme",
        "your",
        "str",
        "int",
        "bool",
        "the",
        "not",
        "is",
        "missing",
    ]
)


def _password(match: "re.Match[str]") -> Finding | None:
    value = match.group().rstrip(".,;:!?)]}>\"'`")
    if len(value) < 4 or value.lower() in _PLACEHOLDERS or len(set(value)) == 1:
        return None
    # A reference to a secret is none: ``${DB_PASSWORD}``, ``<password>``, ``os.environ["X"]``, ``getPassword()``.
    if value[0] in "$<{%[(*" or "(" in value or "[" in value:
        return None
    return Finding(PiiKind.SECRET, match.start(), match.start() + len(value), 0.8)


PASSWORD: Final = Rule(
    PiiKind.SECRET,
    rf"(?<=[:=是为 \"'`“「])(?![:=])(?:[!#-%(-+\--:=?-_a-~]|&(?![A-Za-z_]{{1,20}}=)){{4,{MAX_PASSWORD}}}",
    _password,
    tail=rf"(?<=[:=是为 \"'`“「])[!-~]{{1,{MAX_PASSWORD + 22}}}",
    reach=MAX_PASSWORD + 22,
    may_begin=_PASSWORD_CUE.before,
)

_ADDRESS_CUE: Final = Cue(r"[a-z][a-z0-9+.-]{1,12}://[^\s/:@]{0,40}:", reach=60)


PASSWORD_IN_ADDRESS: Final = Rule(
    PiiKind.SECRET,
    rf"(?<=:)[!-.0-9;-?A-~]{{1,{MAX_PASSWORD}}}(?=@)",
    _found(0.9),
    tail=rf"(?<=:)[!-.0-9;-?A-~]{{1,{MAX_PASSWORD}}}",
    reach=MAX_PASSWORD,
    may_begin=_ADDRESS_CUE.before,
)

BEARER: Final = Rule(
    PiiKind.SECRET,
    r"(?<= )[A-Za-z0-9._~+/=-]{20,512}(?![A-Za-z0-9._~+/=-])",
    _found(0.9),
    tail=r"(?<= )[A-Za-z0-9._~+/=-]{1,513}",
    reach=513,
    may_begin=Cue(r"\bbearer ", reach=10).before,
)
