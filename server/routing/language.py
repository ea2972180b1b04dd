"""Which language a text is mostly written in, told by its characters alone. Pure.

Good enough to send a question to the model that speaks it; it cannot tell languages
apart that share a script, so everything in Latin letters counts as English.
"""

import re
from typing import Final, Literal

Language = Literal["zh", "en", "ja", "ko", "other"]

_KANA: Final = re.compile("[\u3041-\u30ff\uff66-\uff9d]")
_HANGUL: Final = re.compile("[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]")
_HAN: Final = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LATIN_WORD: Final = re.compile("[A-Za-z\u00c0-\u024f]+")
_LETTER: Final = re.compile(r"[^\W\d_]")

_KANA_SHARE: Final = 0.1
"""A Chinese text may quote a Japanese name; a Japanese one has kana in every clause."""


def language_of(text: str) -> Language:
    """The language of a text; ``other`` where it has no letters.

    A Latin word counts as two characters, because that is what it takes in Chinese.
    """
    kana, hangul, han = (len(pattern.findall(text)) for pattern in (_KANA, _HANGUL, _HAN))
    latin_words = _LATIN_WORD.findall(text)
    others = len(_LETTER.findall(text)) - kana - hangul - han - sum(map(len, latin_words))
    if kana and kana >= _KANA_SHARE * (kana + han):
        han, kana = 0, kana + han
    weights: dict[Language, int] = {
        "zh": han,
        "en": 2 * len(latin_words),
        "ja": kana,
        "ko": hangul,
        "other": others,
    }
    language = max(weights, key=lambda name: weights[name])
    return language if weights[language] else "other"
