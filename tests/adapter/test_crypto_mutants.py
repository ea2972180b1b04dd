"""20,000 altered envelopes: none may open to another body, none may fail in a way that has no name."""

import random
from collections import Counter
from collections.abc import Callable

import pytest

from adapter.crypto import Envelope, EnvelopeError, Sealed
from adapter.wire import WireError, envelope_xml, parse_envelope, parse_message

MUTANTS = 20_000
TOKEN, KEY, CORP = "GewGxByb4S7oeIefJX2KW07Z", "ALB7H5SHoaXXbBp24ts0rpg2lb1rTGWdU5sh8ADv9ZS", "ww8f3c1d20b7a94e56"
INNER = (
    "<xml><ToUserName><![CDATA[ww8f3c1d20b7a94e56]]></ToUserName><FromUserName><![CDATA[lisi]]></FromUserName>"
    "<CreateTime>1767226010</CreateTime><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[转账给甲]]></Content>"
    "<MsgId>7590123456789012346</MsgId><AgentID>1000002</AgentID></xml>"
).encode()


class Request:
    """What arrives: the query's three values, and a body."""

    def __init__(self, sealed: Sealed) -> None:
        self.signature, self.timestamp, self.nonce = sealed.msg_signature, sealed.timestamp, sealed.nonce
        self.encrypted = sealed.encrypted
        self.body = envelope_xml(sealed, CORP, "1000002")


Mutation = Callable[[random.Random, Request], None]
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="


def other(rng: random.Random, text: str) -> str:
    """``text`` with one character replaced, removed, doubled or swapped."""
    at = rng.randrange(len(text))
    kind = rng.randrange(4)
    if kind == 0:
        return text[:at] + rng.choice(ALPHABET) + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at + 1 :]
    if kind == 2:
        return text[:at] + text[at] + text[at:]
    end = rng.randrange(len(text))
    swapped = list(text)
    swapped[at], swapped[end] = swapped[end], swapped[at]
    return "".join(swapped)


def signature(rng: random.Random, request: Request) -> None:
    request.signature = other(rng, request.signature)


def timestamp(rng: random.Random, request: Request) -> None:
    request.timestamp = other(rng, request.timestamp)


def nonce(rng: random.Random, request: Request) -> None:
    request.nonce = other(rng, request.nonce)


def ciphertext(rng: random.Random, request: Request) -> None:
    request.body = request.body.replace(request.encrypted.encode(), other(rng, request.encrypted).encode())


def ciphertext_blocks(rng: random.Random, request: Request) -> None:
    blocks = [request.encrypted[at : at + 64] for at in range(0, len(request.encrypted), 64)]
    rng.shuffle(blocks)
    request.body = request.body.replace(request.encrypted.encode(), "".join(blocks).encode())


def bit(rng: random.Random, request: Request) -> None:
    body = bytearray(request.body)
    body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    request.body = bytes(body)


def some_bytes(rng: random.Random, request: Request) -> None:
    body = bytearray(request.body)
    for _ in range(rng.randrange(1, 8)):
        body[rng.randrange(len(body))] = rng.randrange(256)
    request.body = bytes(body)


def truncation(rng: random.Random, request: Request) -> None:
    request.body = request.body[: rng.randrange(len(request.body) or 1)]


def insertion(rng: random.Random, request: Request) -> None:
    at = rng.randrange(len(request.body))
    piece = rng.choice(
        [
            b"<!DOCTYPE x [<!ENTITY a 'b'>]>",
            b"<!-- -->",
            b"&a;",
            b"]]>",
            b"<Encrypt>AA</Encrypt>",
            b"<a>",
            b"\0",
            b"\xff",
        ]
    )
    request.body = request.body[:at] + piece + request.body[at:]


def encoding(rng: random.Random, request: Request) -> None:
    codec = rng.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7"])
    declared = f'<?xml version="1.0" encoding="{codec}"?>' + request.body.decode(errors="replace")
    request.body = declared.encode(codec if rng.random() < 0.7 else "utf-8")


def outer_fields(rng: random.Random, request: Request) -> None:
    name = rng.choice([b"ToUserName", b"AgentID", b"Encrypt", b"xml"])
    request.body = request.body.replace(name, rng.choice([b"encrypt", b"Foo", b"ns:Encrypt", b"", b"AgentID"]))


def parameters_swapped(rng: random.Random, request: Request) -> None:
    values = [request.signature, request.timestamp, request.nonce]
    rng.shuffle(values)
    request.signature, request.timestamp, request.nonce = values


MUTATIONS: list[Mutation] = [
    signature,
    timestamp,
    nonce,
    ciphertext,
    ciphertext_blocks,
    bit,
    some_bytes,
    truncation,
    insertion,
    encoding,
    outer_fields,
    parameters_swapped,
]


def test_no_mutant_opens_to_another_body() -> None:
    assert len(MUTATIONS) == 12
    box, rng = Envelope(TOKEN, KEY, CORP), random.Random(20260101)
    sealed = box.seal(INNER, "1767226010", "1372623149", b"0123456789abcdef")
    outcomes: Counter[str] = Counter()
    for number in range(MUTANTS):
        request = Request(sealed)
        for _ in range(rng.choice((1, 1, 1, 2))):
            MUTATIONS[number % len(MUTATIONS)](rng, request)
        try:
            outer = parse_envelope(request.body)
            opened = box.open(request.signature, request.timestamp, request.nonce, outer.encrypted)
        except WireError:
            outcomes["malformed"] += 1
        except EnvelopeError:
            outcomes["refused"] += 1
        else:
            assert opened == INNER
            outcomes["unchanged"] += 1
    assert outcomes.total() == MUTANTS
    # Flips in fields that nothing signs, and mutations that cancel out, open to what was sealed.
    assert outcomes["malformed"] > 1000
    assert outcomes["refused"] > 1000


def test_the_inner_message_never_crashes_the_parser() -> None:
    rng = random.Random(7)
    for _ in range(5000):
        plain = bytearray(INNER)
        for _ in range(rng.randrange(1, 6)):
            plain[rng.randrange(len(plain))] = rng.randrange(256)
        try:
            parse_message(bytes(plain[: rng.randrange(1, len(plain) + 1)]))
        except WireError:
            continue


@pytest.mark.parametrize("parser", [parse_envelope, parse_message])
def test_random_bytes_never_crash_the_parsers(parser: Callable[[bytes], object]) -> None:
    rng = random.Random(11)
    for _ in range(3000):
        body = rng.choice([b"", b"<", b"<xml>", b"{", b'{"encrypt":']) + rng.randbytes(rng.randrange(200))
        try:
            parser(body)
        except WireError:
            continue
