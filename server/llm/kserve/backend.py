"""Models behind Triton, or another server of KServe's Open Inference Protocol (v2), over gRPC.

What such a model takes and gives is a matter of its tensors, whose names are settings.
What it declares of them is asked once, at the first call: how many dimensions they have,
which of the optional ones there are, and of what type.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import msgspec

from server.budget import Budget
from server.llm.base import Chunk, ErrorClass, Prompt, ProviderError
from server.llm.endpoint import ModelEndpoint
from server.llm.grpc_call import GrpcLine, Metadata, Method, Shape
from server.llm.grpc_request import metadata_of
from server.llm.kserve.reply import AnswerReader, StreamReader
from server.llm.kserve.tensors import MalformedTensor, Number, add_number, add_text
from server.llm.prompt_text import writer
from server.llm.unguarded import require_protection
from server.llm.wire import kserve_pb2

_SERVICE: Final = "/inference.GRPCInferenceService"
_STREAM: Final = Method(f"{_SERVICE}/ModelStreamInfer", kserve_pb2.StreamInferResponse, Shape.BOTH_STREAM)
_ANSWER: Final = Method(f"{_SERVICE}/ModelInfer", kserve_pb2.InferResponse, Shape.UNARY)
_METADATA: Final = Method(f"{_SERVICE}/ModelMetadata", kserve_pb2.ModelMetadataResponse, Shape.UNARY)


class Declared(msgspec.Struct, frozen=True):
    """An input as the model declares it."""

    datatype: str
    rank: int


class KserveBackend:
    """A :class:`~server.llm.base.Backend`; time-outs as :class:`~server.llm.grpc_call.GrpcLine` keeps them.

    A decoupled model is asked in a stream, and ends its reply with a response that says
    so; another one gives one answer. Triton puts calls into batches by itself.
    """

    def __init__(self, endpoint: ModelEndpoint) -> None:
        """Args: what to reach.

        Raises:
            ValueError: for a setting that cannot work; the message begins with its name.
        """
        tensors = endpoint.settings.triton
        try:
            self._write = writer(tensors.prompt_template)
        except ValueError as error:
            raise ValueError(f"triton.prompt_template: {error}") from error
        if endpoint.settings.extra_body and not tensors.parameters_input:
            raise ValueError(
                "extra_body: goes into the tensor with the sampling parameters, and triton.parameters_input names none"
            )
        require_protection(endpoint.address, endpoint.settings, mutual=False)
        self._endpoint = endpoint
        self._tensors = tensors
        self._line = GrpcLine(endpoint.name, endpoint.address, endpoint.settings, overrides=endpoint.side.errors)
        self._declared: dict[str, Declared] | None = None

    async def generate(self, prompt: Prompt, budget: Budget, key: str = "") -> AsyncGenerator[Chunk, None]:
        """See :meth:`server.llm.base.Backend.generate`."""
        metadata = metadata_of(prompt, self._endpoint.side.auth, key)
        try:
            request = self._request(prompt, await self._inputs(budget, key, metadata))
            async with aclosing(self._ask(request, budget, key, metadata)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except ProviderError as error:
            # Whatever went wrong, the model may be another one afterwards.
            self._declared = None
            error.model = self._endpoint.name
            raise

    async def aclose(self) -> None:
        """See :meth:`server.llm.base.Provider.aclose`."""
        await self._line.aclose()

    def _ask(
        self, request: kserve_pb2.InferRequest, budget: Budget, key: str, metadata: Metadata
    ) -> AsyncGenerator[Chunk, None]:
        name = self._endpoint.name
        if not self._tensors.decoupled:
            reader = AnswerReader(name, self._tensors)
            return self._line.generate(_ANSWER, request, reader, budget, key=key, metadata=metadata)
        # Without it, a model that ends its reply behind the last text says so to nobody.
        request.parameters["triton_enable_empty_final_response"].bool_param = True
        stream = StreamReader(name, self._tensors)
        return self._line.generate(_STREAM, request, stream, budget, key=key, metadata=metadata)

    async def _inputs(self, budget: Budget, key: str, metadata: Metadata) -> dict[str, Declared]:
        """The inputs of the model by name."""
        if self._declared is not None:
            return self._declared
        settings = self._endpoint.settings
        asked = kserve_pb2.ModelMetadataRequest(name=self._endpoint.model)
        answer = await self._line.ask(
            _METADATA, asked, budget.part(settings.first_token_seconds), key=key, metadata=metadata
        )
        found = {
            tensor.name: Declared(tensor.datatype, min(max(1, len(tensor.shape)), 8)) for tensor in answer.inputs[:256]
        }
        if self._tensors.text_input not in found:
            raise ProviderError(
                ErrorClass.BAD_REQUEST,
                f"the model has no input {self._tensors.text_input!r} but {sorted(found)}; "
                f"set models.{self._endpoint.name}.triton.text_input to the one for the prompt",
            )
        self._declared = found
        return found

    def _request(self, prompt: Prompt, declared: dict[str, Declared]) -> kserve_pb2.InferRequest:
        if not self._endpoint.takes(prompt):
            raise self._endpoint.refusal_of_picture()
        tensors = self._tensors
        request = kserve_pb2.InferRequest(model_name=self._endpoint.model, id=prompt.request_id)
        _add_text(request, declared, tensors.text_input, self._write(prompt.messages))
        _add_text(request, declared, tensors.parameters_input, msgspec.json.encode(self._sampling(prompt)).decode())
        _add_number(request, declared, tensors.stream_input, tensors.decoupled)
        _add_number(request, declared, tensors.exclude_input, True)
        for output in (tensors.finish_reason_output, tensors.input_count_output, tensors.output_count_output):
            # The vLLM backend gives these only to those who ask for them.
            _add_number(request, declared, f"return_{output}", True)
        if prompt.max_output_tokens is not None:
            _add_number(request, declared, tensors.max_tokens_input, prompt.max_output_tokens)
        if prompt.temperature is not None:
            _add_number(request, declared, tensors.temperature_input, prompt.temperature)
        return request

    def _sampling(self, prompt: Prompt) -> dict[str, object]:
        """The sampling parameters as the vLLM backend reads them."""
        found: dict[str, object] = {}
        if prompt.temperature is not None:
            found["temperature"] = prompt.temperature
        if prompt.max_output_tokens is not None:
            found["max_tokens"] = prompt.max_output_tokens
        return found | self._endpoint.settings.extra_body


def _add_text(request: kserve_pb2.InferRequest, declared: dict[str, Declared], name: str, text: str) -> None:
    if name in declared:
        add_text(request, name, text, declared[name].rank)


def _add_number(request: kserve_pb2.InferRequest, declared: dict[str, Declared], name: str, value: Number) -> None:
    """Adds an optional input, if the model has it: what it does not know it would refuse."""
    if name not in declared:
        return
    try:
        add_number(request, name, declared[name].datatype, value, declared[name].rank)
    except MalformedTensor as error:
        raise ProviderError(ErrorClass.BAD_REQUEST, str(error)) from None
