"""The two dialects of the engine protocol: what vLLM and SGLang call things, and where they put them. Pure."""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec
from google.protobuf.message import Message

from server.llm.engine.sampling import Sampling
from server.llm.grpc_call import Method, Shape
from server.llm.wire import engine_pb2, sglang_engine_pb2, vllm_engine_pb2


class Piece(msgspec.Struct, frozen=True):
    """What one message of a reply says."""

    ids: Sequence[int]
    finish: str | None
    """The finish reason, which may be empty; ``None`` if the reply goes on."""
    index: int
    """Which of several replies it belongs to. One is asked for."""
    cached: int
    """Tokens of the prompt that the engine had computed before."""


class EngineFacts(msgspec.Struct, frozen=True):
    """What an engine says about itself."""

    names: tuple[str, ...]
    """What its model is called: as it is served, and as it was loaded."""
    window: int
    """Tokens of prompt and reply together; 0 if it does not say."""
    generates: bool
    """Whether it writes text, and does not only embed it."""
    sampling: dict[str, object]
    """What it recommends for its model."""


class Dialect(Protocol):
    """How to speak with one kind of engine."""

    generate: Method[Any]
    abort: Method[Any]
    health: Method[engine_pb2.HealthCheckResponse]
    model_info: Method[Any]
    tokenizer: Method[engine_pb2.TokenizerChunk]

    def request(self, request_id: str, ids: Sequence[int], sampling: Sampling) -> Message:
        """Asks for one reply in a stream.

        Raises:
            ValueError: if a number does not fit in its field.
        """
        ...

    def piece(self, message: Any) -> Piece | None:
        """What a message says; ``None`` if nothing."""
        ...

    def abort_request(self, request_id: str) -> Message:
        """Gives up a reply."""
        ...

    def facts(self, info: Any) -> EngineFacts:
        """What the engine says about itself."""
        ...


class VllmDialect:
    """``vllm.grpc.engine.VllmEngine``."""

    _service: Final = "/vllm.grpc.engine.VllmEngine"
    generate = Method(f"{_service}/Generate", vllm_engine_pb2.GenerateResponse)
    abort = Method(f"{_service}/Abort", vllm_engine_pb2.AbortResponse, Shape.UNARY)
    health = Method(f"{_service}/HealthCheck", engine_pb2.HealthCheckResponse, Shape.UNARY)
    model_info = Method(f"{_service}/GetModelInfo", vllm_engine_pb2.ModelInfo, Shape.UNARY)
    tokenizer = Method(f"{_service}/GetTokenizer", engine_pb2.TokenizerChunk)

    def request(self, request_id: str, ids: Sequence[int], sampling: Sampling) -> vllm_engine_pb2.GenerateRequest:
        """See :meth:`Dialect.request`."""
        return vllm_engine_pb2.GenerateRequest(
            request_id=request_id,
            tokenized=engine_pb2.TokenizedInput(input_ids=ids),
            sampling_params=vllm_engine_pb2.SamplingParams(
                **_shared_fields(sampling),
                top_k=sampling.top_k,
                max_tokens=sampling.max_tokens,
                min_tokens=sampling.min_tokens,
            ),
            stream=True,
        )

    def piece(self, message: vllm_engine_pb2.GenerateResponse) -> Piece | None:
        """See :meth:`Dialect.piece`."""
        return _piece(message)

    def abort_request(self, request_id: str) -> vllm_engine_pb2.AbortRequest:
        """See :meth:`Dialect.abort_request`."""
        return vllm_engine_pb2.AbortRequest(request_ids=[request_id])

    def facts(self, info: vllm_engine_pb2.ModelInfo) -> EngineFacts:
        """See :meth:`Dialect.facts`."""
        return _facts(info, info.max_context_length)


class SglangDialect:
    """``sglang.grpc.scheduler.SglangScheduler``."""

    _service: Final = "/sglang.grpc.scheduler.SglangScheduler"
    generate = Method(f"{_service}/Generate", sglang_engine_pb2.GenerateResponse)
    abort = Method(f"{_service}/Abort", sglang_engine_pb2.AbortResponse, Shape.UNARY)
    health = Method(f"{_service}/HealthCheck", engine_pb2.HealthCheckResponse, Shape.UNARY)
    model_info = Method(f"{_service}/GetModelInfo", sglang_engine_pb2.ModelInfo, Shape.UNARY)
    tokenizer = Method(f"{_service}/GetTokenizer", engine_pb2.TokenizerChunk)

    def request(self, request_id: str, ids: Sequence[int], sampling: Sampling) -> sglang_engine_pb2.GenerateRequest:
        """See :meth:`Dialect.request`."""
        return sglang_engine_pb2.GenerateRequest(
            request_id=request_id,
            tokenized=engine_pb2.TokenizedInput(input_ids=ids),
            sampling_params=sglang_engine_pb2.SamplingParams(
                **_shared_fields(sampling),
                top_k=sampling.top_k or -1,
                max_new_tokens=sampling.max_tokens,
                min_new_tokens=sampling.min_tokens,
            ),
            stream=True,
        )

    def piece(self, message: sglang_engine_pb2.GenerateResponse) -> Piece | None:
        """See :meth:`Dialect.piece`."""
        return _piece(message)

    def abort_request(self, request_id: str) -> sglang_engine_pb2.AbortRequest:
        """See :meth:`Dialect.abort_request`."""
        return sglang_engine_pb2.AbortRequest(request_id=request_id, reason="the caller left")

    def facts(self, info: sglang_engine_pb2.ModelInfo) -> EngineFacts:
        """See :meth:`Dialect.facts`."""
        return _facts(info, info.max_context_length)


def _shared_fields(sampling: Sampling) -> dict[str, Any]:
    """The parameters that both have under the same names and with the same meanings."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "repetition_penalty": sampling.repetition_penalty,
        "stop": sampling.stop,
        "stop_token_ids": sampling.stop_token_ids,
        "skip_special_tokens": True,
        "spaces_between_special_tokens": True,
        "ignore_eos": sampling.ignore_eos,
        "n": 1,
    }


def _piece(message: vllm_engine_pb2.GenerateResponse | sglang_engine_pb2.GenerateResponse) -> Piece | None:
    if message.HasField("chunk"):
        return Piece(message.chunk.token_ids, None, message.chunk.index, message.chunk.cached_tokens)
    if message.HasField("complete"):
        end = message.complete
        return Piece(end.output_ids, end.finish_reason, end.index, end.cached_tokens)
    return None


def _facts(info: vllm_engine_pb2.ModelInfo | sglang_engine_pb2.ModelInfo, window: int) -> EngineFacts:
    try:
        sampling = msgspec.json.decode(info.default_sampling_params_json or "{}", type=dict[str, object])
    except (msgspec.DecodeError, RecursionError):
        # A recommendation, and one that cannot be read: neutral values do.
        sampling = {}
    names = tuple(dict.fromkeys(name for name in (info.served_model_name, info.model_path) if name))
    return EngineFacts(names, max(0, window), info.is_generation, sampling)
