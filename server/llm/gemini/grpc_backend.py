"""Gemini over gRPC: the same questions and answers as over HTTP, in other envelopes."""

from typing import Final
from urllib.parse import urlencode

from google.protobuf.json_format import ParseDict

from server.llm.base import Prompt
from server.llm.endpoint import ModelEndpoint
from server.llm.gemini import chunks as answers
from server.llm.gemini import request as questions
from server.llm.gemini.chunks import read_response
from server.llm.gemini.request import request_for, resource_name
from server.llm.grpc_backend import GrpcBackend
from server.llm.grpc_call import MessageReader, Method
from server.llm.grpc_request import extra_fields
from server.llm.wire import gemini_pb2 as pb

_STREAM: Final = Method(
    "/google.ai.generativelanguage.v1beta.GenerativeService/StreamGenerateContent", pb.GenerateContentResponse
)


class GeminiGrpcBackend(GrpcBackend[pb.GenerateContentResponse]):
    """A :class:`~server.llm.base.Backend`, as :class:`~server.llm.grpc_backend.GrpcBackend` does it."""

    def __init__(self, endpoint: ModelEndpoint) -> None:
        """Args: what to reach.

        Raises:
            ValueError: for a setting that cannot work over gRPC; the message begins with its name.
        """
        self._model = resource_name(endpoint.model)
        # How Google's front ends find the servers of the model without reading the request.
        routing = ("x-goog-request-params", urlencode({"model": self._model}, safe="/"))
        super().__init__(endpoint, _STREAM, ResponseReader, metadata=[routing])
        self._extra = extra_fields(pb.GenerateContentRequest, endpoint.settings.extra_body)

    def _request(self, prompt: Prompt) -> pb.GenerateContentRequest:
        endpoint = self._endpoint
        if not endpoint.takes(prompt):
            raise endpoint.refusal_of_picture()
        known = endpoint.side.parameters.temperature
        wanted = prompt.temperature
        temperature = known.of(wanted, endpoint.model) if known is not None and wanted is not None else None
        request = _in_fields(request_for(prompt, temperature=temperature, thinking=endpoint.thinking))
        request.model = self._model
        request.MergeFrom(self._extra)
        return request


class ResponseReader(MessageReader[pb.GenerateContentResponse]):
    """Reads one reply of Gemini.

    Nothing but the end of the stream says that no more comes, so :attr:`done` stays false.
    """

    def feed(self, message: pb.GenerateContentResponse) -> None:
        """See :meth:`server.llm.grpc_call.MessageReader.feed`."""
        read_response(self, _as_values(message))


# --- requests ---------------------------------------------------------------------------------


def _in_fields(asked: questions.GenerateContentRequest) -> pb.GenerateContentRequest:
    request = pb.GenerateContentRequest(contents=[_content(content) for content in asked.contents])
    if asked.system_instruction is not None:
        request.system_instruction.CopyFrom(_content(asked.system_instruction))
    how = asked.generation_config
    config = pb.GenerationConfig(temperature=how.temperature, max_output_tokens=how.max_output_tokens)
    if how.thinking_config is not None:
        ParseDict(how.thinking_config, config.thinking_config)
    request.generation_config.CopyFrom(config)
    return request


def _content(content: questions.Content) -> pb.Content:
    return pb.Content(role=content.role, parts=[_part(part) for part in content.parts])


def _part(part: questions.Part) -> pb.Part:
    if part.inline_data is not None:
        return pb.Part(inline_data=pb.Blob(mime_type=part.inline_data.mime_type, data=part.inline_data.data))
    if part.file_data is not None:
        return pb.Part(file_data=pb.FileData(mime_type=part.file_data.mime_type, file_uri=part.file_data.file_uri))
    return pb.Part(text=part.text or "")


# --- answers ----------------------------------------------------------------------------------


def _as_values(message: pb.GenerateContentResponse) -> answers.Response:
    return answers.Response(
        [_candidate(candidate) for candidate in message.candidates],
        answers.PromptFeedback(_block_reason(message)),
        _counts(message.usage_metadata) if message.HasField("usage_metadata") else None,
    )


def _candidate(candidate: pb.Candidate) -> answers.Candidate:
    parts = [
        answers.Part(part.text, part.thought, part.function_call if part.HasField("function_call") else None)
        for part in candidate.content.parts
    ]
    known = pb.Candidate.FinishReason.DESCRIPTOR.values_by_number.get(candidate.finish_reason)
    # A reason that is newer than this program has a number only.
    reason = known.name if known is not None else str(candidate.finish_reason)
    return answers.Candidate(candidate.index, answers.Content(parts), reason)


def _block_reason(message: pb.GenerateContentResponse) -> str:
    reason = message.prompt_feedback.block_reason
    known = pb.GenerateContentResponse.PromptFeedback.BlockReason.DESCRIPTOR.values_by_number.get(reason)
    return known.name if known is not None else str(reason)


def _counts(counts: pb.GenerateContentResponse.UsageMetadata) -> answers.UsageMetadata:
    return answers.UsageMetadata(
        counts.prompt_token_count,
        counts.candidates_token_count,
        counts.thoughts_token_count,
        counts.cached_content_token_count,
    )
