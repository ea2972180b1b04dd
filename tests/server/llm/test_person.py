"""A person has one name towards vendors, in a form that all of them take."""

import re
from contextlib import aclosing
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.budget import Budget
from server.llm.base import Message, Prompt, ProviderError, Role
from server.llm.catalog import build_backends
from server.llm.person import vendor_name
from server.settings import ModelSettings
from tests.server.llm import grpc_upstream, upstream

PERSON = "zhang.san@example.com"


@pytest.mark.parametrize("user", ["p-0001", "Zhang_San-7", "a" * 64])
def test_a_name_that_all_take_stays(user: str) -> None:
    assert vendor_name(user) == user


@pytest.mark.parametrize("user", ["p-1", "a" * 65, "张三@example.com", "a.b.c.d", "line\nbreak", "person-1\n"])
def test_another_is_replaced(user: str) -> None:
    assert user not in vendor_name(user)
    assert vendor_name(user) == vendor_name(user)


@given(st.text(min_size=1), st.text(min_size=1))
def test_names_have_the_form_and_stay_apart(one: str, other: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{6,64}", vendor_name(one))
    assert (vendor_name(one) == vendor_name(other)) is (one == other)


async def asked(settings: ModelSettings) -> None:
    """Has a backend ask; what becomes of it is not looked at."""
    backend = build_backends({"m": settings})["m"]
    prompt = Prompt("m", (Message(Role.USER, "问"),), user=PERSON)
    try:
        with pytest.raises(ProviderError):
            async with aclosing(backend.generate(prompt, Budget(20), "key")) as chunks:
                async for _ in chunks:
                    pass
    finally:
        await backend.aclose()


@pytest.mark.parametrize(
    ("protocol", "names_people"), [("openai_chat", True), ("anthropic_messages", True), ("gemini", False)]
)
async def test_no_vendor_is_told_another_name(protocol: Any, names_people: bool) -> None:
    async def refuses(request: upstream.Request) -> None:
        await request.say(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")

    async with upstream.serve(refuses) as server:
        await asked(ModelSettings(protocol=protocol, base_url=server.url))
    (request,) = server.requests
    assert PERSON.encode() not in request.head.encode() + request.body
    assert (vendor_name(PERSON).encode() in request.body) is names_people


@pytest.mark.parametrize(
    ("protocol", "names_people"), [("xai_chat", True), ("provider_service", True), ("gemini_grpc", False)]
)
async def test_no_vendor_is_told_another_name_over_grpc(protocol: Any, names_people: bool) -> None:
    async with grpc_upstream.serve(grpc_upstream.fails(grpc.StatusCode.INTERNAL)) as server:
        await asked(ModelSettings(protocol=protocol, target=server.target))
    (call,) = server.calls
    assert PERSON.encode() not in call.request
    assert (vendor_name(PERSON).encode() in call.request) is names_people
