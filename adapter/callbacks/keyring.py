"""Opens callbacks with the present keys and with the next ones, so that a change of keys loses no callback.

The admin console changes Token and EncodingAESKey at one moment, which no file of ours can
hit. So the new ones are made known here first, as the next; then they are saved in the
console; then they take the place of the present ones. Callbacks under either are genuine
all the while.
"""

import re
from typing import Final, Protocol

from cachetools import LRUCache

from adapter.crypto import Envelope, EnvelopeError, Sealed, aes_key, check_token
from program.secret import Secret
from program.settings import SettingsError

_MOST_OPEN: Final = 4096
"""Callbacks that may be on their way to a reply at a time; far more than connections."""
_ROBOT_KEY: Final = re.compile("[a-zA-Z0-9_-]+", re.ASCII)


class Keyring:
    """The envelopes of one callback address (:class:`~adapter.callbacks.gate.Seal`), renewed with its secrets."""

    def __init__(
        self,
        token: Secret,
        encoding_aes_key: Secret,
        receive_id: str,
        *,
        next_token: Secret | None = None,
        next_encoding_aes_key: Secret | None = None,
    ) -> None:
        """Args: as for :class:`Envelope`; what is next may be empty, and be given for one of the two alone.

        Raises:
            ValueError: a malformed value; the text names the field and never quotes it.
        """
        # One that is empty now may be filled later, so it is kept as it is.
        following = [Secret("") if secret is None else secret for secret in (next_token, next_encoding_aes_key)]
        self._secrets = (token, encoding_aes_key, *following)
        self._receive_id = receive_id
        self._made_at: tuple[int, ...] = ()
        self._envelopes: tuple[Envelope, ...] = ()
        # A reply is sealed with what opened its callback: WeCom would not open another one.
        self._opened_with: LRUCache[tuple[str, str], Envelope] = LRUCache(_MOST_OPEN)
        for name, secret in zip(("next_token", "next_encoding_aes_key"), following, strict=True):
            if secret and (rule := broken_rule(name, secret.reveal())):
                raise ValueError(f"{name}: {rule}")
        self._present()

    def open(self, msg_signature: str, timestamp: str, nonce: str, encrypted: str) -> bytes:
        """The message inside. Raises :class:`EnvelopeError` when none of the keys opens it."""
        refused: EnvelopeError | None = None
        for envelope in self._present():
            try:
                plain = envelope.open(msg_signature, timestamp, nonce, encrypted)
            except EnvelopeError as error:
                # The one with the right token got furthest, and is what an operator has to hear of.
                if refused is None or refused.code == EnvelopeError.SIGNATURE:
                    refused = error
            else:
                self._opened_with[timestamp, nonce] = envelope
                return plain
        raise refused or EnvelopeError(EnvelopeError.SIGNATURE)

    def verify_url(self, msg_signature: str, timestamp: str, nonce: str, echostr: str) -> bytes:
        """What the URL check is to be answered with. Raises as :meth:`open`."""
        return self.open(msg_signature, timestamp, nonce, echostr)

    def seal(self, message: bytes, timestamp: str, nonce: str) -> Sealed:
        """Encrypts and signs with what opened the callback of this time and nonce; else with the present keys."""
        return self._of(timestamp, nonce).seal(message, timestamp, nonce)

    def aeskey(self, timestamp: str, nonce: str) -> str:
        """The key of the files beside the callback of this time and nonce, of a bot in callback mode (DOC 100719)."""
        return self._of(timestamp, nonce).aeskey

    def _of(self, timestamp: str, nonce: str) -> Envelope:
        return self._opened_with.get((timestamp, nonce)) or self._present()[0]

    def _present(self) -> tuple[Envelope, ...]:
        made_at = tuple(secret.changes for secret in self._secrets)
        if made_at != self._made_at:
            token, key, next_token, next_key = (secret.reveal() for secret in self._secrets)
            # The console changes both together, but files are changed one by one: every pair may occur.
            pairs = dict.fromkeys(
                (
                    (token, key),
                    (next_token or token, next_key or key),
                    (token, next_key or key),
                    (next_token or token, key),
                )
            )
            self._envelopes = tuple(Envelope(*pair, self._receive_id) for pair in pairs)
            self._made_at = made_at
        return self._envelopes


class Keyed(Protocol):
    """The settings of an account that WeCom calls."""

    @property
    def token(self) -> Secret: ...
    @property
    def encoding_aes_key(self) -> Secret: ...
    @property
    def next_token(self) -> Secret: ...
    @property
    def next_encoding_aes_key(self) -> Secret: ...


def keyring_of(field: str, account: Keyed, receive_id: str) -> Keyring:
    """What opens the callbacks of an account.

    Args:
        field: of the settings, such as ``apps.assistant``.
        receive_id: the CorpID; empty for a bot (DOC 101033).

    Raises:
        SettingsError: for a malformed Token or EncodingAESKey.
    """
    try:
        return Keyring(
            account.token,
            account.encoding_aes_key,
            receive_id,
            next_token=account.next_token,
            next_encoding_aes_key=account.next_encoding_aes_key,
        )
    except ValueError as error:
        name, _, rule = str(error).partition(": ")
        raise SettingsError(f"{field}.{name}", rule) from None


def broken_rule(name: str, text: str) -> str:
    """What is wrong with a secret of an account, by the name of its setting; empty if nothing is."""
    try:
        if name.endswith("encoding_aes_key"):
            aes_key(text)
        elif name.endswith("token"):
            check_token(text)
    except ValueError as error:
        return str(error).partition(": ")[2]
    if name == "key" and text and not _ROBOT_KEY.fullmatch(text):
        return "must be letters, digits, - and _: what stands behind key= in the robot's address"
    return "" if text else "is empty"
