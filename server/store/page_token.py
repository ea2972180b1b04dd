"""Where a page of turns ended, as a token that callers hand back unread. Pure."""

import base64
import binascii
import hashlib
import struct
from typing import Final

from server.errors import InvalidField

_POSITION: Final = struct.Struct(">q")
_CHECK_BYTES: Final = 7
_FIRST: Final = (1 << 63) - 1


def make_token(conversation: str, sequence: int) -> str:
    """A token for the turns of ``conversation`` that arrived before ``sequence``."""
    position = _POSITION.pack(sequence)
    return base64.urlsafe_b64encode(position + _check(conversation, position)).decode("ascii")


def read_token(conversation: str, token: str) -> int:
    """The sequence in a token; of the empty token, one above all.

    The check tells a token of another conversation, a cut or an invented one from a real
    one. It is no secret: a forged token leads to nothing but other turns of the same conversation.

    Raises:
        InvalidField: if :func:`make_token` did not make it for this conversation.
    """
    if not token:
        return _FIRST
    try:
        data = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        data = b""
    position, check = data[: _POSITION.size], data[_POSITION.size :]
    if len(position) != _POSITION.size or check != _check(conversation, position):
        raise InvalidField("page_token", "is not a token of this list; take next_page_token, or leave it empty")
    return int(_POSITION.unpack(position)[0])


def _check(conversation: str, position: bytes) -> bytes:
    name = conversation.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(position + name, digest_size=_CHECK_BYTES, person=b"turn page").digest()
