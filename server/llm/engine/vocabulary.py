"""The text of tokens: how ids that a model writes become bytes, and bytes characters. Pure.

A tokeniser of today writes every token as the same bytes wherever it stands, but for a
space in front of the first one, which some leave out. So a table of bytes is all that
reading a reply takes; that it is one is checked where the table is made
(:mod:`server.llm.engine.token_pieces`). A token may end inside of a character.
"""

import codecs
from array import array
from collections.abc import Iterable

import msgspec


class Vocabulary(msgspec.Struct, frozen=True):
    """The bytes of each token. Special tokens have none."""

    written: bytes
    """Those of all tokens, in the order of their ids."""
    ends: bytes
    """Where each token ends in them: four bytes each, in the order of this machine."""
    leads_with_space: bool
    """Whether the text of a reply begins with a space that was not meant."""


class Detokenizer:
    """Reads one reply. Gives whole characters only, whatever way the tokens come in.

    What is no UTF-8 becomes U+FFFD; half a character at the very end is left out. Tokens
    that the table does not have write nothing, as in the tokeniser.
    """

    __slots__ = ("_at_start", "_decode", "_ends", "_written")

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._written = vocabulary.written
        self._ends = memoryview(vocabulary.ends).cast("I")
        self._at_start = vocabulary.leads_with_space
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def feed(self, ids: Iterable[int]) -> str:
        """The text that is certain with these tokens; may be empty."""
        ends, written = self._ends, self._written
        size = len(ends)
        data = b"".join(written[ends[each - 1] if each else 0 : ends[each]] for each in ids if 0 <= each < size)
        if self._at_start and data:
            self._at_start = False
            data = data.removeprefix(b" ")
        return self._decode(data)


def table(pieces: Iterable[bytes], *, leads_with_space: bool) -> Vocabulary:
    """A vocabulary of tokens that write ``pieces``, in the order of their ids."""
    written = bytearray()
    ends = array("I")
    for piece in pieces:
        written += piece
        ends.append(len(written))
    return Vocabulary(bytes(written), ends.tobytes(), leads_with_space)
