"""Reads the replies of a model behind KServe's protocol. Pure: messages in, values out."""

import codecs
import re
from typing import Any, Final

from server.domain import Usage
from server.llm.base import ErrorClass, ProviderError
from server.llm.failures import MAX_SAID
from server.llm.kserve.tensors import MalformedTensor, numbers, texts
from server.llm.text_reader import TextReader
from server.llm.wire import kserve_pb2
from server.settings import TritonSettings

_FINAL: Final = "triton_final_response"
"""The parameter that marks the last response to a request."""

_UNFINISHED: Final = frozenset({"", "none", "null"})
"""What the finish reason's tensor holds until there is one."""

_SAID_BY_TRITON: Final[tuple[tuple[re.Pattern[str], ErrorClass], ...]] = (
    (re.compile(r"unknown model|model '[^']*' (is )?not found|no available versions"), ErrorClass.NOT_FOUND),
    (re.compile(r"maximum queue size|exceeds max queue|request timeout expired"), ErrorClass.OVERLOADED),
    (re.compile(r"not ready|unavailable|shutting down"), ErrorClass.TRANSIENT),
    (
        re.compile(r"(unexpected|expected \d+|missing).{0,40}\binputs?\b|unexpected (shape|datatype)"),
        ErrorClass.BAD_REQUEST,
    ),
)
"""How Triton itself words what went wrong, in lower case."""


class _Responses:
    """What the responses of one request say, put into a reply. Shared by both ways of asking."""

    def __init__(self, reply: "TextReader[Any]", tensors: TritonSettings) -> None:
        self._reply = reply
        self._tensors = tensors
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._said = ""
        self._read_count: int | None = None
        self._written_count: int | None = None

    def take(self, response: kserve_pb2.InferResponse, *, final: bool) -> None:
        """Takes one response; ``final`` if none follows."""
        try:
            self._take(response, final=final)
        except MalformedTensor as error:
            self._reply.fail(ProviderError(ErrorClass.INCOMPLETE, "a response is malformed", said=str(error)))

    def _take(self, response: kserve_pb2.InferResponse, *, final: bool) -> None:
        found = texts(response, self._tensors.text_output)
        if found:
            self._reply.say(self._new_text(found[0]))
        self._count(response)
        self._end(response)
        if final:
            self._reply.done = True
            if not self._reply.finished:
                # Triton marks the last response of a request that went well, and sends an error in
                # the place of one that did not. So unlike the end of a stream, which says nothing,
                # this is the server's word that the reply is whole. That it might have been cut by
                # a limit is known only where the model has a tensor for the reason.
                self._reply.end("stop")

    def _new_text(self, data: bytes) -> str:
        if not self._tensors.cumulative:
            return self._decoder.decode(data)
        # Half a character at the end is left for the next response, which repeats it whole.
        text, _ = codecs.utf_8_decode(data, "replace", False)
        if not text.startswith(self._said):
            raise MalformedTensor("the text so far changed; is triton.cumulative meant to be true?")
        new, self._said = text[len(self._said) :], text
        return new

    def _count(self, response: kserve_pb2.InferResponse) -> None:
        """Counts what was read once, and adds up what was written, which comes with each piece of text."""
        read = _number(response, self._tensors.input_count_output)
        written = _number(response, self._tensors.output_count_output)
        if read is not None:
            self._read_count = read
        if written is not None:
            so_far = 0 if self._tensors.cumulative else self._written_count or 0
            self._written_count = so_far + written
        if self._read_count is not None and self._written_count is not None:
            self._reply.usage = Usage(self._read_count, self._written_count)

    def _end(self, response: kserve_pb2.InferResponse) -> None:
        name = self._tensors.finish_reason_output
        found = texts(response, name) if name else None
        reason = found[0].decode("utf-8", "replace") if found else ""
        if reason.lower() not in _UNFINISHED:
            self._reply.end(reason)


class StreamReader(TextReader[kserve_pb2.StreamInferResponse]):
    """Reads the responses of ``ModelStreamInfer`` to one request."""

    def __init__(self, model: str, tensors: TritonSettings) -> None:
        """Args: the name of the route; what the tensors are called."""
        super().__init__(model)
        self._responses = _Responses(self, tensors)

    def feed(self, message: kserve_pb2.StreamInferResponse) -> None:
        """See :meth:`server.llm.grpc_call.MessageReader.feed`."""
        if message.error_message:
            # A failed request gets a last response too, so this is looked at first.
            self.fail(failure_in_stream(message.error_message, begun=self.arrived))
            return
        response = message.infer_response
        self._responses.take(response, final=response.parameters[_FINAL].bool_param)


class AnswerReader(TextReader[kserve_pb2.InferResponse]):
    """Reads the one response of ``ModelInfer``."""

    def __init__(self, model: str, tensors: TritonSettings) -> None:
        """Args: the name of the route; what the tensors are called."""
        super().__init__(model)
        self._responses = _Responses(self, tensors)

    def feed(self, message: kserve_pb2.InferResponse) -> None:
        """See :meth:`server.llm.grpc_call.MessageReader.feed`."""
        self._responses.take(message, final=True)


def failure_in_stream(message: str, *, begun: bool) -> ProviderError:
    """The error for an ``error_message``.

    A model that fails puts its traceback there, paths and prompts included: that is for
    the log. It can hold any words, so only what Triton says itself decides the class.

    Args:
        begun: whether text had come, so that what may pass is a reply that was cut.
    """
    kind = ErrorClass.INCOMPLETE
    if "Traceback" not in message:
        words = message[:MAX_SAID].lower()
        kind = next((kind for pattern, kind in _SAID_BY_TRITON if pattern.search(words)), kind)
    if begun and kind in (ErrorClass.TRANSIENT, ErrorClass.OVERLOADED):
        kind = ErrorClass.INCOMPLETE
    # The end of a traceback says what happened; its beginning only where.
    return ProviderError(kind, "in the reply", said=message.strip()[-MAX_SAID:])


def _number(response: kserve_pb2.InferResponse, name: str) -> int | None:
    found = numbers(response, name) if name else None
    return max(0, int(found[0])) if found else None
