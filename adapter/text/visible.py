"""Which characters a person sees, and which a client should not get."""

import re
import unicodedata
from typing import Final

# Controls but tab and line feed, directional overrides and isolates (they can reorder what stands around them),
# the byte order mark, and what is no character at all.
_UNWANTED: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ufffe\uffff\ufdd0-\ufdef]"
)
_LINE_BREAKS: Final = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_SURELY_VISIBLE: Final = re.compile("[!-~\u00a1-\u00ac\u4e00-\u9fff\u3041-\u3096\u30a1-\u30fa\uff01-\uff5e]")
_BLANK_LETTERS: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0\U0001d159")


def has_visible(text: str) -> bool:
    """Whether a person sees anything of ``text``.

    Spaces, controls, joiners, variation selectors, zero-width characters and marks
    without a letter are not seen. WeCom ignores a frame of nothing else, and its bubble
    then never ends.
    """
    return bool(_SURELY_VISIBLE.search(text)) or any(_is_visible(character) for character in text)


def _is_visible(character: str) -> bool:
    return unicodedata.category(character)[0] not in "ZCM" and character not in _BLANK_LETTERS


def clean(text: str) -> str:
    """``text`` with line feeds as its only line breaks, and without characters that no client shows.

    What is left can be encoded: half surrogate pairs become U+FFFD.
    """
    text = _UNWANTED.sub("", _LINE_BREAKS.sub("\n", text))
    return encodable(text)


def encodable(text: str) -> str:
    """``text`` with half surrogate pairs replaced by U+FFFD; nearly always the same object."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def utf8_length(text: str) -> int:
    """The bytes that ``text`` takes up on the wire."""
    return len(text) if text.isascii() else len(text.encode())
