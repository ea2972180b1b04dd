"""Characters that look like Latin letters or digits and have no compatibility mapping in Unicode. Data.

What Unicode maps itself (full width, mathematical, circled, superscript) is not repeated here.
"""

from collections.abc import Iterator
from typing import Final

_TWINS: Final = (
    # Cyrillic, small letters: capitals are folded to these first.
    ("аbвгdеѕіјкԛрсԁһнмоԝтухүԍ", "abbrdesijkqpcdhhmowtyxyg"),
    ("ӏէհոսօցպ", "lehnuogu"),
    # Greek, small letters.
    ("αβεικνορτυχγωηζμ", "abeiknoptuxywnzu"),
    # Small capitals and other phonetic letters.
    ("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnoprstuvwyz"),
    ("ɑɡıȷɩʋɸꞯ", "agijiv0q"),
)
"""Pairs of equally long strings: a character, and what it stands for."""

_RUNS: Final = (
    (0x1F130, 26, "a"),  # squared
    (0x1F150, 26, "a"),  # negative circled
    (0x1F170, 26, "a"),  # negative squared
    (0x1F1E6, 26, "a"),  # regional indicators
    (0x24EB, 10, ""),  # negative circled 11 to 20
    (0x2776, 9, "1"),  # dingbat negative circled digits
    (0x2780, 9, "1"),  # dingbat circled sans-serif digits
    (0x278A, 9, "1"),  # dingbat negative circled sans-serif digits
    (0x24F5, 9, "1"),  # double circled digits
)
"""Blocks in alphabetical or numerical order: first code point, length, what the first stands for."""


def look_alikes() -> dict[str, str]:
    """Every such character, and the ASCII letter or digits that it looks like."""
    return dict(_pairs())


def _pairs() -> Iterator[tuple[str, str]]:
    for odd, plain in _TWINS:
        yield from zip(odd, plain, strict=True)
    for first, length, begin in _RUNS:
        for offset in range(length):
            yield chr(first + offset), chr(ord(begin) + offset) if begin else str(11 + offset)
    for ten in (0x277F, 0x2789, 0x2793, 0x24FE):
        yield chr(ten), "10"
    yield "⓿", "0"
    yield "🄌", "0"
