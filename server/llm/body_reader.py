"""From the bytes of an HTTP answer to a reply: events or one JSON body, whichever comes. Pure."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

import msgspec

from server.llm.base import Chunk, ErrorClass, ProviderError
from server.llm.failures import failure_in_stream
from server.llm.reply import Reply
from server.llm.sse import EventTooLarge, ServerSentEvent, SseDecoder

MAX_JSON_BYTES: Final = 8 << 20
"""Bytes of a reply that comes as one JSON body."""

_BLANKS: Final = b" \t\r\n\xef\xbb\xbf"

T = TypeVar("T")


class BodyReader(Reply, ABC):
    """Reads one reply, as :class:`server.llm.http_call.Reader` promises it.

    Feed it what the network gives until there is a :attr:`failure`, or until the end;
    then call :meth:`close`. The texts put together, the end and the failure are the same
    for every way of cutting the bytes.

    A protocol says what an event and what a whole body means.
    """

    def __init__(self, model: str, *, overrides: Mapping[str, ErrorClass] | None = None) -> None:
        """Args: the name of the route, which goes into the first and the last chunk; codes that the
        backend uses in its own way (see :func:`server.llm.failures.failure_in_stream`).
        """
        super().__init__(model)
        self._overrides = overrides
        self._sse = SseDecoder()
        self._json: bytearray | None = None
        self._sniffed = False
        self.done = False
        """Whether nothing more is to be expected."""

    @abstractmethod
    def _read_event(self, event: ServerSentEvent) -> None:
        """Takes one event of a stream; its data is not blank."""

    @abstractmethod
    def _read_body(self, body: bytes) -> None:
        """Takes a whole JSON body, which need not be well formed."""

    def feed(self, data: bytes) -> Chunk | None:
        """The text and thoughts that came with these bytes, together; ``None`` if there were none.

        What comes with the end is left for :meth:`close`, so that a short reply is one chunk.
        """
        if not self._sniffed:
            self._sniff(data)
        if self._json is not None:
            self._collect(data)
            return None
        self._read_all(lambda: self._sse.feed(data))
        return None if self.done and self.finished else self.take()

    def close(self) -> Chunk:
        """See :meth:`server.llm.reply.Reply.close`."""
        if self.failure is None:
            if self._json is None:
                self._read_all(self._sse.close)
            else:
                self._read_body(bytes(self._json.strip(_BLANKS)))
        self._let_go()
        return super().close()

    def _let_go(self) -> None:
        """Puts in what was held back. For readers that do so; nothing comes afterwards."""

    def _sniff(self, data: bytes) -> None:
        """Tells a JSON body from events by its first character. Content types are not to be trusted."""
        begin = data.lstrip(_BLANKS)
        if begin:
            self._sniffed = True
            if begin[0] in b"{[":
                self._json = bytearray()
                self.arrived = True

    def _collect(self, data: bytes) -> None:
        assert self._json is not None
        self._json += data
        if len(self._json) > MAX_JSON_BYTES:
            self.fail(ProviderError(ErrorClass.INCOMPLETE, f"the reply exceeds {MAX_JSON_BYTES} bytes"))

    def _read_all(self, source: Callable[[], list[ServerSentEvent]]) -> None:
        try:
            events = source()
        except EventTooLarge as error:
            self.fail(ProviderError(ErrorClass.INCOMPLETE, str(error)))
            return
        for event in events:
            if self.failure is not None:
                return
            if event.data.strip():
                self._read_event(event)

    def _broken_off(self, data: bytes) -> None:
        """Takes the backend's report of an error."""
        self.fail(failure_in_stream(data, overrides=self._overrides))

    def _malformed(self, error: ValueError) -> None:
        self.fail(ProviderError(ErrorClass.INCOMPLETE, "a piece of the reply is malformed", said=str(error)))


class PatientDecoder(Generic[T]):
    """Reads JSON into a type: quickly, and once more with patience if that fails.

    Some servers cut text between the halves of a surrogate pair. The quick reader
    refuses the whole object for it; the patient one puts U+FFFD in its place.
    """

    def __init__(self, shape: type[T]) -> None:
        """Args: a struct, or a list of structs. Unknown fields are skipped."""
        self._shape = shape
        self._decode = msgspec.json.Decoder(shape).decode

    def __call__(self, data: bytes) -> T:
        """Reads ``data``.

        Raises:
            ValueError: if it is no JSON, or of another shape.
        """
        try:
            return self._decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        try:
            # The standard reader takes half surrogate pairs.
            found = _whole_characters(json.loads(data.decode("utf-8", "replace")))
        except RecursionError:
            raise ValueError("nested too deeply") from None
        return msgspec.convert(found, self._shape, strict=False)


def _whole_characters(found: object) -> object:
    if isinstance(found, str):
        return found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(found, list):
        return [_whole_characters(item) for item in found]
    if isinstance(found, dict):
        return {name: _whole_characters(value) for name, value in found.items()}
    return found
