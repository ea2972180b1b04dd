"""Makes the table of what each token writes (:class:`~server.llm.engine.vocabulary.Vocabulary`) from a tokeniser.

Tokenisers have a dozen ways of joining tokens. Instead of knowing them, each token is
written behind another one, and what it adds is what it writes; where that is half a
character, its name says which bytes those are. Then texts and random tokens are read both
ways, and a tokeniser whose tokens do not write the same everywhere is refused.

Runs in :mod:`server.llm.engine.prompt_worker`. Needs the package ``tokenizers``.
"""

import random
import re
from typing import TYPE_CHECKING, Final

from server.llm.engine.vocabulary import Detokenizer, Vocabulary, table

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_TOKENS: Final = 1 << 20
"""Tokens of a vocabulary. The largest open models have a quarter of that."""

MAX_PIECE_BYTES: Final = 4096
"""Bytes that one token may write. The longest in use are runs of spaces."""

_SAMPLES: Final = (
    "Hello, world! It's 3.14 – naïve café.\n\n\tdef f(x):\n        return x",
    "  two spaces in front, and two behind  ",
    "年假有几天?您好,请问“带薪病假”怎么申请……第①条(试行)。",
    "😀👩‍👩‍👧 日本語のテキスト Привет мир עברית ไทย",
)
_RANDOM_ROUNDS: Final = 256
_RANDOM_LENGTH: Final = 12

_BYTE_NAME: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>").fullmatch


class NotPiecewise(ValueError):
    """A tokeniser whose tokens cannot be written one by one."""


def vocabulary_of(tokenizer: "Tokenizer") -> Vocabulary:
    """The table, checked against the tokeniser itself.

    Raises:
        NotPiecewise: if there can be none, or it would be too large.
    """
    names = {number: name for name, number in tokenizer.get_vocab(with_added_tokens=True).items()}
    size = max(names, default=-1) + 1
    if not 0 < size <= MAX_TOKENS:
        raise NotPiecewise(f"the vocabulary has {size} tokens, and may have {MAX_TOKENS}")
    pieces = _pieces(tokenizer, names, size)
    found = table(pieces, leads_with_space=_leads_with_space(tokenizer, pieces))
    _check(tokenizer, found, pieces)
    return found


def _pieces(tokenizer: "Tokenizer", names: dict[int, str], size: int) -> list[bytes]:
    anchor, before = _anchor(tokenizer, names)
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    known = [number for number in range(size) if number in names and number not in special]
    written = tokenizer.decode_batch([[anchor, number] for number in known])
    pieces = [b""] * size
    for number, text in zip(known, written, strict=True):
        if not text.startswith(before):
            raise NotPiecewise(f"token {number} changes what stands before it")
        pieces[number] = _bytes(text[len(before) :], names[number])
        if len(pieces[number]) > MAX_PIECE_BYTES:
            raise NotPiecewise(f"token {number} writes {len(pieces[number])} bytes, and may write {MAX_PIECE_BYTES}")
    return pieces


def _anchor(tokenizer: "Tokenizer", names: dict[int, str]) -> tuple[int, str]:
    """A token behind which others can be looked at, and what it writes: ASCII letters or digits."""
    for number, name in sorted(names.items()):
        # One that stands for a byte would be read together with the bytes behind it.
        text = "" if _BYTE_NAME(name) else tokenizer.decode([number])
        if text.isascii() and text.isalnum():
            return number, text
    raise NotPiecewise("no token writes a letter")


def _bytes(text: str, name: str) -> bytes:
    """What a token writes, by what it added to a text and by its name."""
    if "\ufffd" not in text:
        return text.encode()
    by_number = _BYTE_NAME(name)
    if by_number:
        return bytes([int(by_number[1], 16)])
    if all(character in _BYTES for character in name):
        return bytes(_BYTES[character] for character in name)
    return text.encode()


def _byte_alphabet() -> dict[str, int]:
    """How byte-level tokenisers name bytes: those that can be seen by themselves, the others from U+0100 on."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    unseen = [value for value in range(0x100) if value not in seen]
    return {chr(value): value for value in seen} | {chr(0x100 + place): value for place, value in enumerate(unseen)}


_BYTES: Final = _byte_alphabet()


def _leads_with_space(tokenizer: "Tokenizer", pieces: list[bytes]) -> bool:
    """Whether a space in front of the first token is left out."""
    some = [number for number, piece in enumerate(pieces) if re.fullmatch(rb" [!-~]+", piece)][:64]
    alone = {text.startswith(" ") for text in tokenizer.decode_batch([[number] for number in some])}
    if len(alone) > 1:
        raise NotPiecewise("some tokens lose their space at the beginning, and some do not")
    return alone == {False}


def _check(tokenizer: "Tokenizer", vocabulary: Vocabulary, pieces: list[bytes]) -> None:
    chance = random.Random(0)
    # Those that end inside of a character make sense among certain others only; the samples have some.
    whole = [number for number, piece in enumerate(pieces) if piece and _is_text(piece)]
    rows = [tokenizer.encode(sample, add_special_tokens=False).ids for sample in _SAMPLES]
    if whole:
        rows += [chance.choices(whole, k=_RANDOM_LENGTH) for _ in range(_RANDOM_ROUNDS)]
    for row, text in zip(rows, tokenizer.decode_batch(rows), strict=True):
        if Detokenizer(vocabulary).feed(row) != text:
            raise NotPiecewise("its tokens write something else one by one than together")


def _is_text(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True
