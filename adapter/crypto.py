"""The envelope around every WeCom callback: signature, cipher, padding, receive id.

AES-256-CBC with the first 16 key bytes as the IV, PKCS#7 to blocks of 32 bytes, and a
SHA-1 over four sorted strings (DOC 90968). The cipher itself is pycryptodome's; what
stands here is the envelope.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from typing import Final

import msgspec
from Crypto.Cipher import AES

BLOCK: Final = 32
"""Bytes that the padding fills up to. Not the cipher's own 16 (DOC 90968)."""

_RANDOM_BYTES: Final = 16
_LENGTH_BYTES: Final = 4
_TOKEN: Final = re.compile(r"[A-Za-z0-9]{1,32}", re.ASCII)
_AES_KEY: Final = re.compile(r"[A-Za-z0-9+/]{43}", re.ASCII)


class EnvelopeError(Exception):
    """An envelope that is refused.

    The text is the same whatever was wrong, so that nothing which shows it can serve as
    an oracle. ``code`` tells operators: one of Tencent's numbers (WXBizMsgCrypt samples).
    """

    SIGNATURE: Final = -40001
    KEY: Final = -40004
    RECEIVE_ID: Final = -40005
    DECRYPT: Final = -40007
    BUFFER: Final = -40008
    BASE64: Final = -40010

    def __init__(self, code: int) -> None:
        super().__init__("the envelope was refused")
        self.code = code


class Sealed(msgspec.Struct, frozen=True):
    """An encrypted message with what signs it."""

    encrypted: str
    msg_signature: str
    timestamp: str
    nonce: str


def sign(token: str, timestamp: str, nonce: str, encrypted: str) -> str:
    """The ``msg_signature`` of an envelope: 40 lower-case hexadecimal digits (DOC 90968)."""
    pieces = sorted(piece.encode("utf-8", "surrogatepass") for piece in (token, timestamp, nonce, encrypted))
    return hashlib.sha1(b"".join(pieces), usedforsecurity=False).hexdigest()


class Envelope:
    """Opens and seals the envelopes of one callback address."""

    __slots__ = ("_key", "_receive_id", "_token")

    def __init__(self, token: str, encoding_aes_key: str, receive_id: str) -> None:
        """Args: the two values of the admin console, and the CorpID (empty for a bot, DOC 101033).

        Raises:
            ValueError: a malformed value; the text names the field and never quotes it.
        """
        check_token(token)
        self._token = token
        self._key = aes_key(encoding_aes_key)
        self._receive_id = receive_id.encode()

    @property
    def aeskey(self) -> str:
        """The key as it would stand beside a media address: with it :func:`media_key` opens a bot's files."""
        return base64.b64encode(self._key).decode("ascii")

    def open(self, msg_signature: str, timestamp: str, nonce: str, encrypted: str) -> bytes:
        """The message inside, byte for byte.

        The signature is checked first and in constant time: nobody without the token
        reaches the padding check.

        Raises:
            EnvelopeError: anything is not exactly as WeCom would have made it.
        """
        expected = sign(self._token, timestamp, nonce, encrypted)
        if not hmac.compare_digest(expected.encode(), msg_signature.encode("utf-8", "surrogatepass")):
            raise EnvelopeError(EnvelopeError.SIGNATURE)
        try:
            ciphertext = binascii.a2b_base64(encrypted.encode("ascii"), strict_mode=True)
        except (binascii.Error, UnicodeEncodeError):
            raise EnvelopeError(EnvelopeError.BASE64) from None
        if not ciphertext or len(ciphertext) % BLOCK:
            raise EnvelopeError(EnvelopeError.BUFFER)
        return self._unwrap(_unpad(_decrypt(ciphertext, self._key)))

    def _unwrap(self, plain: bytes) -> bytes:
        start = _RANDOM_BYTES + _LENGTH_BYTES
        if len(plain) < start:
            raise EnvelopeError(EnvelopeError.BUFFER)
        end = start + int.from_bytes(plain[_RANDOM_BYTES:start], "big")
        if end > len(plain):
            raise EnvelopeError(EnvelopeError.BUFFER)
        # Also when nothing is expected: whatever follows the message was not put there by WeCom.
        if not hmac.compare_digest(plain[end:], self._receive_id):
            raise EnvelopeError(EnvelopeError.RECEIVE_ID)
        return plain[start:end]

    def verify_url(self, msg_signature: str, timestamp: str, nonce: str, echostr: str) -> bytes:
        """What the URL check is to be answered with, as it stands (DOC 90238).

        Args: ``echostr`` after exactly one URL decode.

        Raises:
            EnvelopeError: as :meth:`open`.
        """
        return self.open(msg_signature, timestamp, nonce, echostr)

    def seal(self, message: bytes, timestamp: str, nonce: str, random16: bytes | None = None) -> Sealed:
        """Encrypts and signs.

        Args: ``random16`` fixes the 16 bytes in front (for tests); by default they are random.
        """
        head = secrets.token_bytes(_RANDOM_BYTES) if random16 is None else random16
        if len(head) != _RANDOM_BYTES:
            raise ValueError("random16: must be 16 bytes")
        plain = head + len(message).to_bytes(_LENGTH_BYTES, "big") + message + self._receive_id
        encrypted = base64.b64encode(_encrypt(_pad(plain), self._key)).decode("ascii")
        return Sealed(encrypted, sign(self._token, timestamp, nonce, encrypted), timestamp, nonce)


def check_token(token: str) -> None:
    """Raises ``ValueError`` for what the admin console would not take as a Token; the text does not quote it."""
    if not _TOKEN.fullmatch(token):
        raise ValueError("token: must be 1 to 32 letters and digits")


def aes_key(encoding_aes_key: str) -> bytes:
    """The 32 bytes that an ``EncodingAESKey`` stands for.

    The last of the 43 characters carries two bits too many. Real keys set them, so they
    are ignored and the key is not compared with its re-encoding.

    Raises:
        ValueError: not 43 characters of the base64 alphabet; the text does not quote it.
    """
    if not _AES_KEY.fullmatch(encoding_aes_key):
        raise ValueError("encoding_aes_key: must be 43 letters and digits")
    return base64.b64decode(encoding_aes_key + "=")


def media_key(aeskey: str) -> bytes:
    """The 32 bytes of the ``aeskey`` beside a media address; its ``=`` may be missing (DOC 101463).

    Raises:
        EnvelopeError: not 32 bytes of base64.
    """
    try:
        return aes_key(aeskey.removesuffix("="))
    except ValueError:
        raise EnvelopeError(EnvelopeError.KEY) from None


def decrypt_media(data: bytes, key: bytes) -> bytes:
    """The file inside an encrypted download: the same cipher and padding, no header, no receive id.

    Nothing signs a download: the result is foreign bytes.

    Raises:
        EnvelopeError: wrong key, cut file, or padding that no sender makes.
    """
    if len(key) != BLOCK:
        raise EnvelopeError(EnvelopeError.KEY)
    if not data or len(data) % AES.block_size:
        raise EnvelopeError(EnvelopeError.BUFFER)
    return _unpad(_decrypt(data, key))


class MediaCipher:
    """:func:`decrypt_media` for a download that comes in pieces, so that it is in memory only once."""

    OVERHEAD: Final = BLOCK
    """Bytes that a download has more than the file, at most."""

    def __init__(self, key: bytes) -> None:
        """Raises :class:`EnvelopeError` when the key is not 32 bytes long."""
        if len(key) != BLOCK:
            raise EnvelopeError(EnvelopeError.KEY)
        self._cipher = AES.new(key, AES.MODE_CBC, key[: AES.block_size])
        self._rest = b""

    def feed(self, piece: bytes) -> bytes:
        """What is certain so far. The last bytes stay behind: they may be padding."""
        data = self._rest + piece
        kept = min(len(data), BLOCK + len(data) % AES.block_size)
        self._rest = data[len(data) - kept :]
        return self._cipher.decrypt(data[: len(data) - kept])

    def end(self) -> bytes:
        """The rest.

        Raises:
            EnvelopeError: as :func:`decrypt_media`.
        """
        if not self._rest or len(self._rest) % AES.block_size:
            raise EnvelopeError(EnvelopeError.BUFFER)
        return _unpad(self._cipher.decrypt(self._rest))


def encrypt_media(data: bytes, key: bytes) -> bytes:
    """The counterpart of :func:`decrypt_media`.

    Raises:
        EnvelopeError: the key is not 32 bytes long.
    """
    if len(key) != BLOCK:
        raise EnvelopeError(EnvelopeError.KEY)
    return _encrypt(_pad(data), key)


def _decrypt(data: bytes, key: bytes) -> bytes:
    return AES.new(key, AES.MODE_CBC, key[: AES.block_size]).decrypt(data)


def _encrypt(data: bytes, key: bytes) -> bytes:
    return AES.new(key, AES.MODE_CBC, key[: AES.block_size]).encrypt(data)


def _pad(data: bytes) -> bytes:
    count = BLOCK - len(data) % BLOCK
    return data + bytes([count]) * count


def _unpad(data: bytes) -> bytes:
    count = data[-1]
    if not 1 <= count <= min(BLOCK, len(data)) or data[-count:] != bytes([count]) * count:
        raise EnvelopeError(EnvelopeError.DECRYPT)
    return data[:-count]
