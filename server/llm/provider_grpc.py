"""Any engine behind ``weconverse.provider.v1.ProviderService``, this project's own contract for model backends."""

from typing import Final

from google.protobuf.json_format import ParseDict

from server.domain import Usage
from server.llm.base import Image, Message, Prompt, Role
from server.llm.endpoint import ModelEndpoint
from server.llm.grpc_backend import GrpcBackend
from server.llm.grpc_call import MessageReader, Method
from server.llm.grpc_request import extra_fields
from server.llm.openai.request import OpenAiRequest
from weconverse.provider.v1 import provider_pb2 as pb

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["ProviderService"].full_name
_GENERATE: Final = Method(f"/{_SERVICE}/Generate", pb.GenerateResponse)

_ROLES: Final = {
    Role.SYSTEM: pb.Message.SYSTEM,
    Role.USER: pb.Message.USER,
    Role.ASSISTANT: pb.Message.ASSISTANT,
}


class ProviderServiceBackend(GrpcBackend[pb.GenerateResponse]):
    """A :class:`~server.llm.base.Backend`, as :class:`~server.llm.grpc_backend.GrpcBackend` does it."""

    def __init__(self, endpoint: ModelEndpoint) -> None:
        """Args: what to reach.

        Raises:
            ValueError: for a setting that cannot work over gRPC; the message begins with its name.
        """
        super().__init__(endpoint, _GENERATE, ResponseReader)
        self._parameters = OpenAiRequest(endpoint).parameters
        self._extra = extra_fields(pb.GenerateRequest, {**endpoint.thinking, **endpoint.settings.extra_body})

    def _request(self, prompt: Prompt) -> pb.GenerateRequest:
        request = ParseDict(self._parameters(prompt), pb.GenerateRequest(request_id=prompt.request_id))
        request.messages.extend(self._message(message) for message in prompt.messages)
        request.MergeFrom(self._extra)
        return request

    def _message(self, message: Message) -> pb.Message:
        images = [self._picture(image) for image in message.images]
        return pb.Message(role=_ROLES[message.role], text=message.text, images=images)

    def _picture(self, image: Image) -> pb.Image:
        # The contract has no field for an address: an engine in a closed network could not fetch it.
        if not image.data or not self._endpoint.takes_picture(image):
            raise self._endpoint.refusal_of_picture()
        return pb.Image(mime_type=image.mime_type, data=image.data)


class ResponseReader(MessageReader[pb.GenerateResponse]):
    """Reads one reply. The message with the finish reason is the last one, token counts included."""

    def feed(self, message: pb.GenerateResponse) -> None:
        """See :meth:`server.llm.grpc_call.MessageReader.feed`."""
        self.put(message.text, message.reasoning)
        if message.finish_reason == pb.GenerateResponse.FINISH_REASON_UNSPECIFIED:
            return
        if message.input_token_count or message.output_token_count:
            self.usage = Usage(message.input_token_count, message.output_token_count)
        known = pb.GenerateResponse.FinishReason.DESCRIPTOR.values_by_number.get(message.finish_reason)
        # A reason that is newer than this program has a number only.
        self.end(known.name if known is not None else str(message.finish_reason))
        self.done = True
