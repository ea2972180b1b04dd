"""Tensors of KServe's protocol as values, and back. Pure: messages in, values out.

What a server sends is not trusted: lengths are checked before anything is read, and
:class:`MalformedTensor` says what does not add up.
"""

import struct
from collections.abc import Iterable
from typing import Final

from server.llm.wire import kserve_pb2

MAX_ELEMENTS: Final = 4096
"""Elements of one tensor that are read. A model that talks sends one."""

_FORMATS: Final[dict[str, str]] = {
    "BOOL": "?",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP32": "f",
    "FP64": "d",
}
"""How numbers lie in raw contents, in the notation of ``struct``; always little-endian."""

_LENGTH: Final = struct.Struct("<I")

Number = bool | int | float


class MalformedTensor(ValueError):
    """A tensor that contradicts itself."""


def add_text(request: kserve_pb2.InferRequest, name: str, text: str, rank: int = 1) -> None:
    """Adds a BYTES tensor of one element. ``rank`` is the number of dimensions that the model declares."""
    data = text.encode()
    _add(request, name, "BYTES", rank, _LENGTH.pack(len(data)) + data)


def add_number(request: kserve_pb2.InferRequest, name: str, datatype: str, value: Number, rank: int = 1) -> None:
    """Adds a tensor of one number.

    Raises:
        MalformedTensor: if the model wants a type that is none of numbers, or in which this one does not fit.
    """
    form = _FORMATS.get(datatype)
    if form is None:
        raise MalformedTensor(f"input {name!r} is of type {datatype[:16]!r}, and a number was to go there")
    try:
        data = struct.pack("<" + form, value if form in "fd?" else int(value))
    except struct.error:
        raise MalformedTensor(f"input {name!r} is of type {datatype}, in which {value} does not fit") from None
    _add(request, name, datatype, rank, data)


def texts(response: kserve_pb2.InferResponse, name: str) -> list[bytes] | None:
    """The elements of a BYTES output; ``None`` if the response has no output of that name.

    Raises:
        MalformedTensor: if it is of another type, or its lengths do not add up.
    """
    found = _find(response, name)
    if found is None:
        return None
    tensor, raw = found
    if tensor.datatype != "BYTES":
        raise MalformedTensor(f"output {name!r} is of type {tensor.datatype[:16]!r} and not BYTES")
    return split_bytes(raw) if raw is not None else list(tensor.contents.bytes_contents[:MAX_ELEMENTS])


def numbers(response: kserve_pb2.InferResponse, name: str) -> list[Number] | None:
    """The elements of an output of numbers; ``None`` if the response has no output of that name.

    Raises:
        MalformedTensor: if it is of another type, or its lengths do not add up.
    """
    found = _find(response, name)
    if found is None:
        return None
    tensor, raw = found
    form = _FORMATS.get(tensor.datatype)
    if form is None:
        raise MalformedTensor(f"output {name!r} is of type {tensor.datatype[:16]!r} and not one of numbers")
    if raw is None:
        return _typed(tensor.contents)
    size = struct.calcsize("<" + form)
    if len(raw) % size or len(raw) // size > MAX_ELEMENTS:
        raise MalformedTensor(f"output {name!r} has {len(raw)} bytes, which are no {tensor.datatype} numbers")
    return [value for (value,) in struct.iter_unpack("<" + form, raw)]


def split_bytes(raw: bytes) -> list[bytes]:
    """The elements of a BYTES tensor: each is four bytes with its length, and then itself.

    Raises:
        MalformedTensor: if an element ends behind the data, or there are too many.
    """
    found: list[bytes] = []
    at = 0
    while at < len(raw):
        if len(found) == MAX_ELEMENTS:
            raise MalformedTensor(f"a tensor has more than {MAX_ELEMENTS} elements")
        begin = at + _LENGTH.size
        if begin > len(raw):
            raise MalformedTensor("a tensor ends inside of a length")
        at = begin + _LENGTH.unpack_from(raw, at)[0]
        if at > len(raw):
            raise MalformedTensor("a tensor ends inside of an element")
        found.append(raw[begin:at])
    return found


def _add(request: kserve_pb2.InferRequest, name: str, datatype: str, rank: int, data: bytes) -> None:
    request.inputs.append(kserve_pb2.Tensor(name=name, datatype=datatype, shape=[1] * rank))
    request.raw_input_contents.append(data)


def _find(response: kserve_pb2.InferResponse, name: str) -> tuple[kserve_pb2.Tensor, bytes | None] | None:
    """The output, and its raw bytes; ``None`` in their place if its elements travel as values."""
    raw = response.raw_output_contents
    if raw and len(raw) != len(response.outputs):
        raise MalformedTensor(f"there are {len(response.outputs)} outputs and contents of {len(raw)}")
    for position, tensor in enumerate(response.outputs):
        if tensor.name == name:
            return tensor, raw[position] if raw else None
    return None


def _typed(contents: kserve_pb2.Contents) -> list[Number]:
    lists: tuple[Iterable[Number], ...] = (
        contents.bool_contents,
        contents.int_contents,
        contents.int64_contents,
        contents.uint_contents,
        contents.uint64_contents,
        contents.fp32_contents,
        contents.fp64_contents,
    )
    found = [value for values in lists for value in values]
    if len(found) > MAX_ELEMENTS:
        raise MalformedTensor(f"a tensor has more than {MAX_ELEMENTS} elements")
    return found
