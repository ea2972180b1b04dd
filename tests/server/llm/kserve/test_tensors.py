"""Tensors are read as they were written, and whatever else comes is refused in words."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.llm.kserve.tensors import (
    MAX_ELEMENTS,
    MalformedTensor,
    add_number,
    add_text,
    numbers,
    split_bytes,
    texts,
)
from server.llm.wire.kserve_pb2 import Contents, InferRequest, InferResponse, Tensor


def packed(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def answer(name: str, datatype: str, raw: bytes) -> InferResponse:
    return InferResponse(outputs=[Tensor(name=name, datatype=datatype, shape=[1])], raw_output_contents=[raw])


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_elements_come_back_as_they_were(elements: list[bytes]) -> None:
    assert split_bytes(packed(*elements)) == elements


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=5), st.data())
def test_bytes_that_are_cut_are_refused_or_end_between_elements(elements: list[bytes], data: st.DataObject) -> None:
    raw = packed(*elements)
    cut = data.draw(st.integers(0, len(raw) - 1))
    borders = {len(packed(*elements[:count])) for count in range(len(elements) + 1)}
    if cut in borders:
        assert packed(*split_bytes(raw[:cut])) == raw[:cut]
    else:
        with pytest.raises(MalformedTensor):
            split_bytes(raw[:cut])


@given(st.binary(max_size=200), st.text(max_size=8), st.binary(max_size=40))
def test_nothing_but_a_malformed_tensor_is_raised(raw: bytes, datatype: str, other: bytes) -> None:
    for kind in (datatype, "BYTES", "INT32", "BOOL", "FP64"):
        response = answer("t", kind, raw)
        response.outputs.append(Tensor(name="other", datatype="BYTES"))
        for contents in ([raw], [raw, other], []):
            response.raw_output_contents[:] = contents
            for read in (texts, numbers):
                with suppress(MalformedTensor):
                    read(response, "t")


def test_too_many_elements_are_refused() -> None:
    assert len(split_bytes(bytes(4 * MAX_ELEMENTS))) == MAX_ELEMENTS
    with pytest.raises(MalformedTensor, match="more than"):
        split_bytes(bytes(4 * (MAX_ELEMENTS + 1)))
    with pytest.raises(MalformedTensor):
        numbers(answer("t", "BOOL", bytes(MAX_ELEMENTS + 1)), "t")


@pytest.mark.parametrize(
    ("datatype", "value", "raw"),
    [
        ("BOOL", True, b"\x01"),
        ("INT32", 300, b"\x2c\x01\x00\x00"),
        ("UINT64", 300, b"\x2c\x01" + bytes(6)),
        ("FP32", 0.5, b"\x00\x00\x00\x3f"),
    ],
)
def test_numbers_are_little_endian(datatype: str, value: float, raw: bytes) -> None:
    request = InferRequest()
    add_number(request, "n", datatype, value, rank=2)
    assert list(request.raw_input_contents) == [raw]
    assert list(request.inputs[0].shape) == [1, 1]
    assert numbers(answer("n", datatype, raw), "n") == [value]


def test_a_number_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(MalformedTensor, match=r"'n'.*INT8.*300"):
        add_number(InferRequest(), "n", "INT8", 300)
    with pytest.raises(MalformedTensor, match=r"'n'.*BYTES"):
        add_number(InferRequest(), "n", "BYTES", 1)


def test_text_is_utf_8_behind_its_length() -> None:
    request = InferRequest()
    add_text(request, "t", "年假")
    assert request.raw_input_contents[0] == b"\x06\x00\x00\x00" + "年假".encode()
    assert request.inputs[0].datatype == "BYTES"


def test_elements_may_travel_as_values() -> None:
    response = InferResponse(
        outputs=[
            Tensor(name="t", datatype="BYTES", contents=Contents(bytes_contents=[b"ab"])),
            Tensor(name="n", datatype="INT32", contents=Contents(int_contents=[7])),
        ]
    )
    assert texts(response, "t") == [b"ab"]
    assert numbers(response, "n") == [7]
    assert texts(response, "missing") is None
    assert numbers(response, "missing") is None
