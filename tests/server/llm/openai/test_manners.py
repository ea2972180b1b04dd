"""What a model refuses to be asked is learnt once, and only from refusals that say so."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.budget import Budget
from server.llm.base import ErrorClass, Message, Prompt, ProviderError, Role
from server.llm.endpoint import endpoint_of
from server.llm.failures import failure_of
from server.llm.openai.backend import OpenAiHttpProvider
from server.llm.openai.manners import CAPS, WISHES, Manners
from server.settings import ModelSettings
from tests.server.llm.reading import take
from tests.server.llm.upstream import SERVED, Handler, says, serve

BODY: dict[str, object] = {
    "model": "m",
    "messages": [],
    "temperature": 0.7,
    "max_tokens": 1500,
    "user": "person-1",
    "stream": True,
    "stream_options": {"include_usage": True},
}

PLAIN = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."


def refusal(body: object, status: int = 400) -> ProviderError:
    return failure_of(status, {}, json.dumps(body).encode(), now=0.0)


def error(message: str) -> dict[str, object]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": "unsupported_value"}}


def strange(*loc: str) -> dict[str, object]:
    """Mistral's way."""
    return {"detail": [{"type": "extra_forbidden", "loc": ["body", *loc], "msg": "Extra inputs are not permitted"}]}


@pytest.mark.parametrize(
    ("status", "said", "gone"),
    [
        (400, error("Unsupported value: 'temperature' does not support 0.7 with this model."), "temperature"),
        (400, error("invalid temperature: only 0.6 is allowed for this model"), "temperature"),
        (422, strange("stream_options", "include_usage"), "stream_options"),
        (400, error("Unrecognized request argument supplied: stream_options"), "stream_options"),
        (422, strange("user"), "user"),
        (400, error("Unknown field 'user'"), "user"),
    ],
)
def test_a_wish_that_is_refused_is_given_up(status: int, said: object, gone: str) -> None:
    learnt = Manners().after(refusal(said, status), BODY)
    assert learnt.shown(BODY) == {name: value for name, value in BODY.items() if name != gone}
    # The next refusal teaches the next thing, and the same one nothing more.
    assert learnt.after(refusal(said, status), learnt.shown(BODY)) == learnt


@pytest.mark.parametrize(("cap", "other"), CAPS.items())
def test_the_cap_has_two_names(cap: str, other: str) -> None:
    body = {"model": "m", cap: 1500}
    said = error(f"Unsupported parameter: '{cap}' is not supported with this model. Use '{other}' instead.")
    learnt = Manners().after(refusal(said), body)
    assert learnt.shown(body) == {"model": "m", other: 1500}
    back = error(f"Unsupported parameter: '{other}'. Use '{cap}' instead.")
    assert learnt.after(refusal(back), learnt.shown(body)) == learnt


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, error("Conversation roles must alternate user/assistant/user/assistant")),
        (400, error("max_tokens must be at least 1")),
        (400, error("Range of max_tokens should be [1, 8192]")),
        (400, error("max_tokens or max_completion_tokens is too large: 9000")),
        (400, error("Unsupported parameter: 'reasoning_effort'")),
        # Not about the form of the request.
        (400, error("This model's maximum context length is 512; temperature is fine")),
        (401, error("unsupported temperature")),
        (500, error("unsupported temperature")),
    ],
)
def test_other_refusals_teach_nothing(status: int, said: object) -> None:
    assert Manners().after(refusal(said, status), BODY) == Manners()


def test_what_was_not_asked_cannot_be_refused() -> None:
    said = error("Unsupported: temperature, max_tokens, max_completion_tokens, stream_options, user")
    assert Manners().after(refusal(said), {"model": "m"}) == Manners()


FIELDS = ["temperature", *CAPS, *WISHES]


@given(st.lists(st.lists(st.sampled_from(FIELDS), max_size=4), max_size=40))
def test_learning_comes_to_an_end(rounds: list[list[str]]) -> None:
    manners, steps = Manners(), 0
    for named in rounds:
        body = manners.shown(BODY)
        learnt = manners.after(refusal(error(f"unsupported: {', '.join(named)}")), body)
        steps += learnt != manners
        manners = learnt
    assert steps <= len(WISHES) + 2
    assert {"model", "messages", "stream"} <= set(manners.shown(BODY))


def refuses(message: str) -> Handler:
    body = json.dumps(error(message)).encode()
    return says(b"HTTP/1.1 400 No\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


PROMPT = Prompt("m", (Message(Role.USER, "问"),), temperature=0.7, max_output_tokens=1500)


async def asked(*handlers: Handler, calls: int = 1, **entry: Any) -> list[dict[str, Any]]:
    async with serve(*handlers) as upstream:
        provider = OpenAiHttpProvider(endpoint_of("m", ModelSettings(base_url=upstream.url, **entry)))
        for _ in range(calls):
            taken, _ = await take(provider, Budget(20), PROMPT)
            assert taken.complete
        await provider.aclose()
        return [json.loads(request.body) for request in upstream.requests]


async def test_the_answer_comes_all_the_same_and_the_lesson_is_kept() -> None:
    first, second, third, fourth = await asked(
        refuses(PLAIN), refuses("'temperature' does not support 0.7 with this model"), says(SERVED), calls=2
    )
    assert "max_tokens" in first
    assert second["max_completion_tokens"] == 1500
    assert "temperature" in second
    assert third == fourth == {name: value for name, value in second.items() if name != "temperature"}


async def test_what_an_operator_adds_is_not_taken_away() -> None:
    async with serve(refuses("unsupported temperature")) as upstream:
        entry = ModelSettings(base_url=upstream.url, extra_body={"temperature": 1.0})
        provider = OpenAiHttpProvider(endpoint_of("m", entry))
        taken, _ = await take(provider, Budget(20), PROMPT)
        assert taken.error is ErrorClass.BAD_REQUEST
        # Once for the wish of the assistant; then it is clear that the operator means it.
        assert [json.loads(request.body)["temperature"] for request in upstream.requests] == [1.0, 1.0]
        await provider.aclose()


async def test_a_refusal_that_teaches_nothing_is_one() -> None:
    async with serve(refuses("messages must not be empty")) as upstream:
        provider = OpenAiHttpProvider(endpoint_of("m", ModelSettings(base_url=upstream.url)))
        taken, _ = await take(provider, Budget(20), PROMPT)
        await provider.aclose()
        assert (taken.error, len(upstream.requests)) == (ErrorClass.BAD_REQUEST, 1)
