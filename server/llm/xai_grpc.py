"""xAI over its own gRPC service, which is what its own client speaks."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Final

from google.protobuf.json_format import ParseDict

from server.domain import Usage
from server.llm.base import Image, Message, Prompt, Role
from server.llm.endpoint import ModelEndpoint
from server.llm.grpc_backend import GrpcBackend
from server.llm.grpc_call import MessageReader, Method
from server.llm.grpc_request import extra_fields
from server.llm.openai.request import OpenAiRequest
from server.llm.wire import xai_chat_pb2 as pb

_STREAM: Final = Method("/xai_api.Chat/GetCompletionChunk", pb.GetChatCompletionChunk)

_ROLES: Final = {
    Role.SYSTEM: pb.ROLE_SYSTEM,
    Role.USER: pb.ROLE_USER,
    Role.ASSISTANT: pb.ROLE_ASSISTANT,
}


class XaiGrpcBackend(GrpcBackend[pb.GetChatCompletionChunk]):
    """A :class:`~server.llm.base.Backend`, as :class:`~server.llm.grpc_backend.GrpcBackend` does it."""

    def __init__(self, endpoint: ModelEndpoint) -> None:
        """Args: what to reach.

        Raises:
            ValueError: for a setting that cannot work over gRPC; the message begins with its name.
        """
        super().__init__(endpoint, _STREAM, ChunkReader)
        # The parameters have the same names over both transports.
        self._parameters = OpenAiRequest(endpoint).parameters
        self._extra = extra_fields(
            pb.GetCompletionsRequest, _spelt_out({**endpoint.thinking, **endpoint.settings.extra_body})
        )

    def _request(self, prompt: Prompt) -> pb.GetCompletionsRequest:
        request = ParseDict(self._parameters(prompt), pb.GetCompletionsRequest())
        request.messages.extend(self._message(message) for message in prompt.messages)
        request.MergeFrom(self._extra)
        return request

    def _message(self, message: Message) -> pb.Message:
        content = [pb.Content(text=message.text)] if message.text or not message.images else []
        content.extend(pb.Content(image_url=self._picture(image)) for image in message.images)
        return pb.Message(role=_ROLES[message.role], content=content)

    def _picture(self, image: Image) -> pb.ImageUrlContent:
        if not self._endpoint.takes_picture(image):
            raise self._endpoint.refusal_of_picture()
        url = f"data:{image.mime_type};base64,{b64encode(image.data).decode()}" if image.data else image.uri
        return pb.ImageUrlContent(image_url=url, detail=pb.DETAIL_AUTO)


class ChunkReader(MessageReader[pb.GetChatCompletionChunk]):
    """Reads one reply of xAI.

    Token counts come with every message and are right in the last one. Nothing says which
    that is but the end of the stream, so :attr:`done` stays false.
    """

    def feed(self, message: pb.GetChatCompletionChunk) -> None:
        """See :meth:`server.llm.grpc_call.MessageReader.feed`."""
        if message.HasField("usage"):
            self.usage = _usage(message.usage)
        for output in message.outputs:
            if output.index == 0:
                self._read(output)

    def _read(self, output: pb.CompletionOutputChunk) -> None:
        self.put(output.delta.content, output.delta.reasoning_content)
        if output.delta.tool_calls:
            self.asked_for_tool = True
        if output.finish_reason != pb.REASON_INVALID:
            self.end(_word(output.finish_reason))


def _word(reason: int) -> str:
    """The name of a finish reason; its number, if it is newer than this program."""
    known = pb.FinishReason.DESCRIPTOR.values_by_number.get(reason)
    return known.name if known is not None else str(reason)


def _usage(counts: pb.SamplingUsage) -> Usage:
    # Thoughts are left out of the completion tokens, but not out of the total.
    output = max(counts.completion_tokens, counts.total_tokens - counts.prompt_tokens)
    return Usage(counts.prompt_tokens, output, cached_input_token_count=counts.cached_prompt_text_tokens)


def _spelt_out(fields: Mapping[str, object]) -> dict[str, object]:
    """Fields with ``reasoning_effort`` as gRPC wants it: ``high`` over HTTP is ``EFFORT_HIGH`` here."""
    found = dict(fields)
    effort = found.get("reasoning_effort")
    if isinstance(effort, str) and not effort.startswith("EFFORT_"):
        found["reasoning_effort"] = f"EFFORT_{effort.upper()}"
    return found
