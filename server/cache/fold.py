"""Which questions count as the same question. Pure.

Two questions that fold to the same text get the same cached answer. A miss costs one
model call; a wrong hit costs trust. So what may carry meaning is kept, and only what is
spelling noise goes:

- **Width** is folded (``ＶＰＮ？`` is ``VPN?``), and characters are composed (NFC). Not the
  whole of NFKC, which also turns ``10⁵`` into ``105`` and ``1½`` into ``11⁄2``.
- **White space** at the ends goes, runs become one space, and a single one between
  Chinese and Latin goes, which some people type and some do not.
- **Case** of ASCII words is folded where a word is all capitals, all small, or
  capitalised and longer than two letters, and only in questions with Chinese in them,
  where Latin words are names and their case is noise (``VPN怎么连``, ``vpn怎么连``). Words
  of mixed case (``mW``, ``MBps``) and words that touch a digit or follow a number stay
  (``5 MB``). In a purely Latin question only the first word's capital goes, since
  ``who`` and ``WHO``, ``polish`` and ``Polish`` differ.
- **The end**: full stops and exclamation marks behind a word go; a question mark goes
  where a word says that it is a question, because ``明天放假？`` and ``明天放假`` differ.

Case is kept altogether where it may be the point: where the question speaks of spelling,
of programming or of passwords, or has two words that differ in case alone. Text with
several lines or with the signs of code is kept as it is, but for its ends.
"""

import re
import unicodedata
from typing import Final

_WIDTH: Final = {0x3000: " "} | {wide: chr(wide - 0xFEE0) for wide in range(0xFF01, 0xFF5F)}
_CODE: Final = re.compile(
    r"[`{}\[\]<>=;$\\|&#@~^*_\n]|--|://|[A-Za-z0-9]\(|[A-Za-z]\.[A-Za-z]"
    r"|(?<![A-Za-z0-9])-[A-Za-z]|(?:^|[A-Za-z0-9 ])/[A-Za-z]"
)
_CASE_MATTERS: Final = re.compile(
    "大小写|大写|小写|字母|拼写|缩写|简称|全称|意思|含义|翻译|单位|换算|密码|口令|变量|函数|代码|命令|脚本|参数|字段|"
    "类名|关键字|编程|正则|python|java|sql|shell|linux|unix|bash|golang|rust|html|css|json|yaml|c语言",
    re.IGNORECASE,
)
_CHINESE: Final = re.compile("[\u3400-\u9fff\uf900-\ufaff]")
_WORD: Final = re.compile(r"(?<![A-Za-z0-9])(?<!\d )[A-Za-z]{2,}(?![A-Za-z0-9])")
_ASKS: Final = re.compile(
    "吗|呢|么|怎|如何|哪|谁|几|多少|多久|多长|多大|啥|为何|何时|何地|是否|是不是|能否|可否|有没有|能不能|可不可以|会不会|要不要|"
    r"\b(?:who|whom|whose|what|when|where|which|why|how|is|are|am|was|were|do|does|did|can|could|will|would|shall|should|may)\b",
    re.IGNORECASE,
)
_LOOSE_SPACE: Final = re.compile("(?<=[\u3400-\u9fff]) (?=[A-Za-z0-9])|(?<=[A-Za-z0-9]) (?=[\u3400-\u9fff])")
_QUESTION_END: Final = re.compile(r" *\?[。.!?｡ ]*$")
_FULL_STOPS: Final = re.compile("(?<=[A-Za-z\u3400-\u9fff][A-Za-z\u3400-\u9fff\u300b\u201d)])[。.!｡ ]+$")


def fold(question: str) -> str:
    """The form in which questions are compared. Folding twice changes nothing more."""
    text = unicodedata.normalize("NFC", question).replace("\r\n", "\n").strip()
    flat = unicodedata.normalize("NFC", text.translate(_WIDTH)).strip()
    if _CODE.search(flat):
        return text
    flat = _LOOSE_SPACE.sub("", " ".join(flat.split()))
    return _fold_case(_fold_end(flat))


def looks_like_code(question: str) -> bool:
    """Whether it has several lines or the signs of code, so that every character may count."""
    return bool(_CODE.search(question.translate(_WIDTH).strip()))


def _fold_end(text: str) -> str:
    if _ASKS.search(text):
        # From the first question mark of the end on: an exclamation mark before it may be a sign (`5!?`).
        text = _QUESTION_END.sub("", text) or text
    return _FULL_STOPS.sub("", text)


def _fold_case(text: str) -> str:
    if text.islower() or _CASE_MATTERS.search(text):
        return text
    if not _CHINESE.search(text):
        first, space, rest = text.partition(" ")
        return _fold_word(first) + space + rest if first.isascii() and first.istitle() else text
    words = set(_WORD.findall(text))
    if len({word.lower() for word in words}) < len(words):
        return text
    return _WORD.sub(lambda found: _fold_word(found[0]), text)


def _fold_word(word: str) -> str:
    regular = word.isupper() or (word.istitle() and len(word) > 2)
    return word.lower() if regular else word
