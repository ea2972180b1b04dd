"""Replies of models behind Triton: recorded ones, and a server that says what a test tells it to."""

import asyncio
import struct
from collections.abc import Iterable
from typing import Any

import grpc
import msgspec
import pytest

from server.budget import Budget
from server.domain import FinishReason, Usage
from server.llm.base import Chunk, ErrorClass, Image, Message, Prompt, ProviderError, Role
from server.llm.endpoint import endpoint_of
from server.llm.kserve.backend import KserveBackend
from server.llm.kserve.reply import AnswerReader, StreamReader, failure_in_stream
from server.llm.kserve.tensors import split_bytes
from server.llm.wire.kserve_pb2 import (
    InferRequest,
    InferResponse,
    ModelMetadataResponse,
    StreamInferResponse,
    Tensor,
)
from server.settings import ModelSettings, TritonSettings
from tests.server.llm.grpc_recording import load
from tests.server.llm.grpc_upstream import Call, Handler, fails, says, serve
from tests.server.llm.reading import Taken, put_together, take

VLLM_BACKEND = {
    "text_input": ("BYTES", [1]),
    "stream": ("BOOL", [1]),
    "sampling_parameters": ("BYTES", [1]),
    "exclude_input_in_output": ("BOOL", [1]),
    "return_finish_reason": ("BOOL", [1]),
    "return_num_input_tokens": ("BOOL", [1]),
    "return_num_output_tokens": ("BOOL", [1]),
}
TENSORRT = {"text_input": ("BYTES", [-1, 1]), "max_tokens": ("INT32", [-1, 1]), "temperature": ("FP32", [-1, 1])}
ASKED = Prompt(
    "m",
    (Message(Role.SYSTEM, "短"), Message(Role.USER, "年假?")),
    temperature=0.25,
    max_output_tokens=64,
    request_id="r1",
)


def declared(inputs: dict[str, tuple[str, list[int]]]) -> ModelMetadataResponse:
    tensor = ModelMetadataResponse.TensorMetadata
    return ModelMetadataResponse(
        name="m", inputs=[tensor(name=name, datatype=kind, shape=shape) for name, (kind, shape) in inputs.items()]
    )


def tensors(**values: str | int) -> InferResponse:
    response = InferResponse(model_name="m")
    for name, value in values.items():
        kind, raw = "UINT32", b""
        if isinstance(value, str):
            kind, raw = "BYTES", struct.pack("<I", len(value.encode())) + value.encode()
        else:
            raw = struct.pack("<I", value)
        response.outputs.append(Tensor(name=name, datatype=kind, shape=[1]))
        response.raw_output_contents.append(raw)
    return response


def part(final: bool = False, **values: str | int) -> StreamInferResponse:
    response = tensors(**values)
    response.parameters["triton_final_response"].bool_param = final
    return StreamInferResponse(infer_response=response)


def settings(target: str = "127.0.0.1:1", triton: TritonSettings | None = None, **more: Any) -> ModelSettings:
    return ModelSettings(transport="grpc", protocol="kserve", target=target, triton=triton or TritonSettings(), **more)


def backend(entry: ModelSettings) -> KserveBackend:
    return KserveBackend(endpoint_of("m", entry))


async def asked(*handlers: Handler, triton: TritonSettings | None = None, prompt: Prompt = ASKED, **more: Any) -> Taken:
    async with serve(says(declared(VLLM_BACKEND)), *handlers) as upstream:
        provider = backend(settings(upstream.target, triton, **more))
        try:
            taken, _ = await take(provider, prompt=prompt)
        finally:
            await provider.aclose()
    return taken


def read(
    messages: Iterable[StreamInferResponse], triton: TritonSettings | None = None
) -> tuple[Taken, ProviderError | None]:
    reader = StreamReader("m", triton or TritonSettings())
    chunks: list[Chunk] = []
    for message in messages:
        reader.feed(message)
        chunk = reader.take()
        if chunk is not None:
            chunks.append(chunk)
    try:
        chunks.append(reader.close())
    except ProviderError as error:
        return put_together(chunks, error), error
    return put_together(chunks), None


# --- Recordings ---------------------------------------------------------------------------


def recorded(name: str) -> list[StreamInferResponse]:
    return [StreamInferResponse.FromString(message) for message in load(name)]


def test_a_recorded_reply_is_whole() -> None:
    taken, _ = read(recorded("triton_hi"))
    assert taken == Taken("你好,world #9", "", FinishReason.STOP, None)


def test_a_recorded_reply_is_whole_with_its_last_response_only() -> None:
    messages = recorded("triton_hi")
    for count in range(len(messages)):
        taken, error = read(messages[:count])
        assert taken.finish is None
        assert error is not None
        assert error.kind is ErrorClass.INCOMPLETE


def test_a_recorded_failure_half_way_is_no_end_though_it_is_marked_as_the_last() -> None:
    taken, error = read(recorded("triton_mid"))
    assert taken == Taken("你好,", "", None, None, ErrorClass.INCOMPLETE)
    assert error is not None
    assert error.detail.endswith("RuntimeError: engine failed half way")


def test_a_recorded_failure_at_once_keeps_its_traceback_for_the_log() -> None:
    taken, error = read(recorded("triton_boom"))
    assert taken.text == ""
    assert error is not None
    assert error.kind is ErrorClass.INCOMPLETE
    assert "ValueError: bad prompt" in error.detail
    assert len(error.said) <= 500


# --- What responses say -------------------------------------------------------------------


def test_the_reason_of_the_model_goes_before_that_of_the_protocol() -> None:
    taken, _ = read([part(text_output="ab", finish_reason="None"), part(True, text_output="c", finish_reason="length")])
    assert taken == Taken("abc", "", FinishReason.LENGTH, None)


def test_a_reason_that_is_a_failure_is_one() -> None:
    taken, _ = read([part(text_output="ab"), part(True, finish_reason="abort")])
    assert taken.error is ErrorClass.INCOMPLETE


def test_counts_are_added_up() -> None:
    taken, _ = read(
        [
            part(text_output="a", num_input_tokens=9, num_output_tokens=1),
            part(text_output="b", num_input_tokens=9, num_output_tokens=2),
            part(True),
        ]
    )
    assert taken.usage == Usage(9, 3)


def test_an_output_that_repeats_itself_is_said_once() -> None:
    triton = TritonSettings(cumulative=True)
    taken, _ = read(
        [part(text_output="年"), part(text_output="年假", num_input_tokens=3, num_output_tokens=2), part(True)], triton
    )
    assert taken == Taken("年假", "", FinishReason.STOP, Usage(3, 2))


def test_an_output_that_should_repeat_itself_and_does_not_is_an_error_that_names_the_setting() -> None:
    _, error = read([part(text_output="年"), part(text_output="假")], TritonSettings(cumulative=True))
    assert error is not None
    assert "triton.cumulative" in error.detail


@pytest.mark.parametrize("cumulative", [False, True])
def test_characters_that_are_cut_between_responses_are_joined(cumulative: bool) -> None:
    whole = "你好,world 😀".encode()
    for cut in range(len(whole)):
        responses = []
        for piece in (whole[:cut], whole if cumulative else whole[cut:]):
            response = part(text_output="")
            response.infer_response.raw_output_contents[0] = struct.pack("<I", len(piece)) + piece
            responses.append(response)
        taken, _ = read([*responses, part(True)], TritonSettings(cumulative=cumulative))
        assert taken.text == "你好,world 😀"


def test_thoughts_are_told_from_text() -> None:
    taken, _ = read([part(text_output="<thi"), part(text_output="nk>hm</think>\n\n好"), part(True)])
    assert taken == Taken("好", "hm", FinishReason.STOP, None)


def test_a_malformed_tensor_breaks_the_reply_off() -> None:
    response = part(text_output="ab")
    response.infer_response.raw_output_contents[0] = b"\xff\xff\xff\xffab"
    taken, error = read([response, part(True)])
    assert taken.finish is None
    assert error is not None
    assert "inside of an element" in error.detail


def test_one_answer_is_complete_by_itself() -> None:
    reader = AnswerReader("m", TritonSettings())
    reader.feed(tensors(text_output="好", finish_reason="length"))
    assert reader.close() == Chunk("好", "", FinishReason.LENGTH, None, "m")


@pytest.mark.parametrize(
    ("said", "begun", "kind"),
    [
        ("Request for unknown model: 'x' is not found", False, ErrorClass.NOT_FOUND),
        ("Request for unknown model: 'x' has no available versions", False, ErrorClass.NOT_FOUND),
        ("Exceeds maximum queue size", False, ErrorClass.OVERLOADED),
        ("Request timeout expired", False, ErrorClass.OVERLOADED),
        ("Request timeout expired", True, ErrorClass.INCOMPLETE),
        ("Server is stopping, scheduler for model has stopped: not ready", False, ErrorClass.TRANSIENT),
        ("unexpected inference input 'streem', allowed inputs are: stream", False, ErrorClass.BAD_REQUEST),
        ("expected 1 inputs but got 3 inputs for model 'm'", False, ErrorClass.BAD_REQUEST),
        ("CUDA error", False, ErrorClass.INCOMPLETE),
        ('Traceback (most recent call last):\n  File "x.py"\nValueError: unknown model', False, ErrorClass.INCOMPLETE),
    ],
)
def test_errors_inside_of_a_stream_are_told_apart(said: str, begun: bool, kind: ErrorClass) -> None:
    assert failure_in_stream(said, begun=begun).kind is kind


# --- Over the wire ------------------------------------------------------------------------


async def test_a_request_has_what_the_model_declares() -> None:
    async with serve(says(declared(VLLM_BACKEND)), says(part(text_output="好"), part(True))) as upstream:
        provider = backend(settings(upstream.target, model="vllm_model", extra_body={"top_p": 0.9}))
        taken, _ = await take(provider, prompt=ASKED)
        await provider.aclose()
    assert taken.text == "好"
    request = InferRequest.FromString(upstream.calls[1].request)
    assert request.model_name == "vllm_model"
    assert request.id == "r1"
    assert request.parameters["triton_enable_empty_final_response"].bool_param
    sent = {tensor.name: raw for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)}
    assert set(sent) == set(VLLM_BACKEND)
    assert split_bytes(sent["text_input"]) == [
        "<|im_start|>system\n短<|im_end|>\n<|im_start|>user\n年假?<|im_end|>\n<|im_start|>assistant\n".encode()
    ]
    assert msgspec.json.decode(split_bytes(sent["sampling_parameters"])[0]) == {
        "temperature": 0.25,
        "max_tokens": 64,
        "top_p": 0.9,
    }
    assert sent["stream"] == sent["exclude_input_in_output"] == sent["return_finish_reason"] == b"\x01"


async def test_other_tensors_are_sent_as_the_settings_name_them() -> None:
    triton = TritonSettings(
        parameters_input="",
        stream_input="",
        exclude_input="",
        max_tokens_input="max_tokens",
        temperature_input="temperature",
        decoupled=False,
    )
    async with serve(says(declared(TENSORRT)), says(tensors(text_output="好"))) as upstream:
        provider = backend(settings(upstream.target, triton))
        taken, _ = await take(provider, prompt=ASKED)
        await provider.aclose()
    assert taken == Taken("好", "", FinishReason.STOP, None)
    request = InferRequest.FromString(upstream.calls[1].request)
    assert [(tensor.name, list(tensor.shape)) for tensor in request.inputs] == [
        ("text_input", [1, 1]),
        ("max_tokens", [1, 1]),
        ("temperature", [1, 1]),
    ]
    assert list(request.raw_input_contents)[1:] == [struct.pack("<i", 64), struct.pack("<f", 0.25)]


async def test_the_model_is_asked_once_what_it_declares_and_again_after_a_failure() -> None:
    whole = says(part(True, text_output="好"))
    async with serve(
        says(declared(VLLM_BACKEND)), whole, whole, says(StreamInferResponse(error_message="CUDA error")),
        says(declared(VLLM_BACKEND)), whole,
    ) as upstream:  # fmt: skip
        provider = backend(settings(upstream.target))
        for expected in (None, None, ErrorClass.INCOMPLETE, None):
            taken, _ = await take(provider)
            assert taken.error is expected
        await provider.aclose()
    assert len(upstream.calls) == 6


async def test_a_stream_that_ends_without_the_last_response_is_cut() -> None:
    assert (await asked(says(part(text_output="好")))).error is ErrorClass.INCOMPLETE
    after_text = await asked(fails(grpc.StatusCode.UNAVAILABLE, after=(part(text_output="好"),)))
    assert after_text == Taken("好", "", None, None, ErrorClass.INCOMPLETE)


async def test_an_unknown_model_is_not_found_wherever_that_is_said() -> None:
    words = "Request for unknown model: 'm' is not found"
    assert (await asked(says(StreamInferResponse(error_message=words)))).error is ErrorClass.NOT_FOUND
    async with serve(fails(grpc.StatusCode.NOT_FOUND, words)) as upstream:
        provider = backend(settings(upstream.target))
        taken, _ = await take(provider)
        await provider.aclose()
    assert taken.error is ErrorClass.NOT_FOUND


async def test_a_model_without_the_input_for_the_prompt_is_an_error_that_names_the_setting() -> None:
    async with serve(says(declared({"INPUT0": ("BYTES", [1])}))) as upstream:
        provider = backend(settings(upstream.target))
        with pytest.raises(ProviderError, match=r"INPUT0.*models\.m\.triton\.text_input") as caught:
            async for _ in provider.generate(ASKED, Budget(20)):
                pass
        await provider.aclose()
    assert caught.value.kind is ErrorClass.BAD_REQUEST
    assert caught.value.model == "m"


async def test_a_picture_is_refused_with_the_code_for_it() -> None:
    prompt = Prompt("m", (Message(Role.USER, "?", (Image("image/png", b"x"),)),))
    assert (await asked(prompt=prompt)).error is ErrorClass.BAD_REQUEST


async def test_a_caller_who_leaves_ends_the_call_at_the_server() -> None:
    hanging: list[Call] = []

    async def stalls(call: Call) -> None:
        hanging.append(call)
        await call.say(part(text_output="好"))
        await asyncio.Event().wait()

    async with serve(says(declared(VLLM_BACKEND)), stalls) as upstream:
        provider = backend(settings(upstream.target))
        generated = provider.generate(ASKED, Budget(20))
        assert (await anext(generated)).text == "好"
        await generated.aclose()
        await hanging[0].cancelled.wait()
        await provider.aclose()


# --- Settings -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("triton", "more", "words"),
    [
        (TritonSettings(prompt_template="/nowhere/x.jinja"), {}, r"triton\.prompt_template: .*cannot be read"),
        (TritonSettings(parameters_input=""), {"extra_body": {"top_p": 1}}, r"extra_body: .*triton\.parameters_input"),
    ],
)
def test_settings_that_cannot_work_are_named(triton: TritonSettings, more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        backend(settings(triton=triton, **more))


def test_a_server_elsewhere_is_reached_with_tls_only() -> None:
    with pytest.raises(ValueError, match=r"tls: "):
        backend(settings("triton.example.com:8001", tls=False))
