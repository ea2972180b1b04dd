"""The KServe backend against a real Triton server, with Python callables as its models (``serve.py``)."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from server.budget import Budget
from server.domain import FinishReason, Usage
from server.llm.base import ErrorClass, Message, Prompt, ProviderError, Role
from server.llm.endpoint import endpoint_of
from server.llm.grpc_call import GrpcLine, Method, Shape
from server.llm.kserve.backend import KserveBackend
from server.llm.kserve.reply import StreamReader
from server.llm.kserve.tensors import add_text
from server.llm.wire.kserve_pb2 import InferRequest, StreamInferResponse
from server.settings import ModelSettings, TritonSettings
from tests.server.llm.reading import Taken, take
from tests.triton.conftest import TritonServer

pytestmark = pytest.mark.triton

ANSWER = "你好,world 😀 年假有 5 天"
PROMPT_TOKENS = 7


def asking(question: str = "年假?", most: int | None = 100) -> Prompt:
    return Prompt("m", (Message(Role.USER, question),), max_output_tokens=most, request_id="r1")


@asynccontextmanager
async def backend(
    server: TritonServer, model: str, triton: TritonSettings | None = None, **more: Any
) -> AsyncIterator[KserveBackend]:
    entry = ModelSettings(
        protocol="kserve", target=server.target, model=model, triton=triton or TritonSettings(), **more
    )
    provider = KserveBackend(endpoint_of("m", entry))
    try:
        yield provider
    finally:
        await provider.aclose()


async def failure(provider: KserveBackend, prompt: Prompt) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        async with aclosing(provider.generate(prompt, Budget(30))) as chunks:
            async for _ in chunks:
                pass
    return caught.value


async def test_a_decoupled_model_streams_its_reply_with_reason_and_counts(triton: TritonServer) -> None:
    async with backend(triton, "stream") as provider:
        taken, chunks = await take(provider, prompt=asking())
    assert taken == Taken(ANSWER, "", FinishReason.STOP, Usage(PROMPT_TOKENS, len(ANSWER)))
    assert len(chunks) > 1


async def test_the_sampling_parameters_arrive(triton: TritonServer) -> None:
    async with backend(triton, "stream") as provider:
        taken, _ = await take(provider, prompt=asking(most=3))
    assert taken == Taken(ANSWER[:3], "", FinishReason.LENGTH, Usage(PROMPT_TOKENS, 3))


async def test_a_decoupled_model_without_a_reason_ends_with_the_last_response(triton: TritonServer) -> None:
    async with backend(triton, "plain_stream") as provider:
        taken, _ = await take(provider, prompt=asking())
    assert taken == Taken(ANSWER, "", FinishReason.STOP, None)


async def test_a_model_that_is_not_decoupled_gives_one_answer(triton: TritonServer) -> None:
    async with backend(triton, "whole", TritonSettings(decoupled=False)) as provider:
        taken, chunks = await take(provider, prompt=asking())
        cut, _ = await take(provider, prompt=asking(most=3))
    assert taken == Taken(ANSWER, "", FinishReason.STOP, Usage(PROMPT_TOKENS, len(ANSWER)))
    assert len(chunks) == 1
    assert (cut.text, cut.finish) == (ANSWER[:3], FinishReason.LENGTH)


async def test_a_model_that_is_not_decoupled_can_be_asked_in_a_stream_too(triton: TritonServer) -> None:
    async with backend(triton, "whole") as provider:
        taken, _ = await take(provider, prompt=asking())
    assert taken == Taken(ANSWER, "", FinishReason.STOP, Usage(PROMPT_TOKENS, len(ANSWER)))


async def test_a_decoupled_model_refuses_to_give_one_answer(triton: TritonServer) -> None:
    async with backend(triton, "stream", TritonSettings(decoupled=False)) as provider:
        assert (await failure(provider, asking())).kind is ErrorClass.BAD_REQUEST


@pytest.mark.parametrize(
    ("question", "text", "words"), [("boom", "", "bad prompt"), ("half way", ANSWER[:3], "half way")]
)
async def test_a_model_that_fails_breaks_its_reply_off(
    triton: TritonServer, question: str, text: str, words: str
) -> None:
    async with backend(triton, "stream") as provider:
        taken, _ = await take(provider, prompt=asking(question))
        error = await failure(provider, asking(question))
    assert taken == Taken(text, "", None, None, ErrorClass.INCOMPLETE)
    assert words in error.detail


async def test_one_answer_that_fails_is_an_error(triton: TritonServer) -> None:
    async with backend(triton, "whole", TritonSettings(decoupled=False)) as provider:
        assert (await failure(provider, asking("boom"))).kind is ErrorClass.TRANSIENT


async def test_an_unknown_model_is_not_found(triton: TritonServer) -> None:
    async with backend(triton, "nobody") as provider:
        assert (await failure(provider, asking())).kind is ErrorClass.NOT_FOUND


async def test_an_unknown_model_is_not_found_inside_of_a_stream_either(triton: TritonServer) -> None:
    line = GrpcLine("m", triton.target, ModelSettings())
    method = Method("/inference.GRPCInferenceService/ModelStreamInfer", StreamInferResponse, Shape.BOTH_STREAM)
    request = InferRequest(model_name="nobody", id="r1")
    add_text(request, "text_input", "?")
    with pytest.raises(ProviderError) as caught:
        async for _ in line.generate(method, request, StreamReader("m", TritonSettings()), Budget(30)):
            pass
    await line.aclose()
    assert caught.value.kind is ErrorClass.NOT_FOUND


async def test_a_wrong_name_of_a_tensor_is_an_error_that_names_the_setting(triton: TritonServer) -> None:
    async with backend(triton, "stream", TritonSettings(text_input="prompt")) as provider:
        error = await failure(provider, asking())
    assert error.kind is ErrorClass.BAD_REQUEST
    assert "triton.text_input" in error.detail


async def test_calls_at_a_time_do_not_disturb_each_other(triton: TritonServer) -> None:
    async with backend(triton, "stream") as provider:
        replies = await asyncio.gather(*(take(provider, prompt=asking(most=most)) for most in range(1, 13)))
    assert [taken.text for taken, _ in replies] == [ANSWER[:most] for most in range(1, 13)]


async def test_a_reply_that_is_left_does_not_hold_the_next_caller_up(triton: TritonServer) -> None:
    async with backend(triton, "plain_stream") as provider:
        generated = provider.generate(asking(), Budget(30))
        await anext(generated)
        await generated.aclose()
        taken, _ = await take(provider, prompt=asking())
    assert taken.text == ANSWER


async def test_a_server_that_is_killed_in_the_middle_of_a_reply_leaves_it_cut(own_triton: TritonServer) -> None:
    async with backend(own_triton, "stream") as provider:
        text = ""
        with pytest.raises(ProviderError) as caught:
            async with aclosing(provider.generate(asking("slowly"), Budget(30))) as chunks:
                async for chunk in chunks:
                    text += chunk.text
                    assert chunk.finish is None
                    if text == ANSWER[:3]:
                        os.kill(own_triton.process_id, signal.SIGKILL)
        assert caught.value.kind is ErrorClass.INCOMPLETE
        assert text == ANSWER[:3]
        assert (await failure(provider, asking())).kind is ErrorClass.TRANSIENT
