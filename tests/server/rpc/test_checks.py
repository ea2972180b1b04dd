"""Requests are refused early, by a rule that names field and remedy; whatever is let through can be converted."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration as span  # noqa: N813  # short, in a table
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import InvalidField
from server.rpc import checks, convert
from weconverse.v1 import channel_pb2 as channel
from weconverse.v1 import conversation_pb2 as pb

TURN = "conversations/a/turns/b"
SAID = pb.Content(parts=[pb.Part(text="问")])


def ask(**fields: Any) -> pb.ConverseRequest:
    return pb.ConverseRequest(**{"conversation": "conversations/a", "input": SAID, **fields})


def parts(*each: pb.Part) -> pb.Content:
    return pb.Content(parts=each)


def media(**fields: Any) -> pb.ConverseRequest:
    return ask(input=parts(pb.Part(media=pb.Media(**{"mime_type": "image/png", **fields}))))


def options(**fields: Any) -> pb.ConverseRequest:
    return ask(options=pb.TurnOptions(**fields))


def owe(**fields: Any) -> pb.SubmitTurnRequest:
    good = {"turn": ask(request_id="r"), "account": "channels/wecom/accounts/a"}
    return pb.SubmitTurnRequest(**{**good, **fields})


def push(**fields: Any) -> channel.PushRequest:
    good = {"account": "channels/wecom/accounts/a", "recipient": "u", "content": SAID, "request_id": "r"}
    return channel.PushRequest(**{**good, **fields})


def greet(**fields: Any) -> channel.AttachRequest:
    return channel.AttachRequest(
        hello=channel.Hello(**{"account": "channels/wecom/accounts/a", "instance": "i", **fields})
    )


def outcome(**fields: Any) -> channel.AttachRequest:
    return channel.AttachRequest(result=channel.DeliveryResult(**{"turn": TURN, **fields}))


GOOD: list[tuple[Callable[[Any], Any], Any]] = [
    (checks.converse, ask()),
    (checks.converse, ask(conversation="conversations/" + "aZ9._~-" * 18)),
    (checks.converse, ask(input=parts(pb.Part(text=""), pb.Part(text="中文, 😀\x00")))),
    (checks.converse, ask(input=parts(pb.Part(text="长" * 1_000_000)))),  # how long is decided by the turns
    (checks.converse, media()),
    (checks.converse, media(inline_data=b"x" * checks.MAX_INLINE_BYTES)),
    (checks.converse, media(uri="https://example.com/a?b=c", display_name="图.png")),
    (checks.converse, media(missing=pb.Media.TOO_LARGE)),
    (checks.converse, media(missing=99)),  # of a later version
    (checks.converse, ask(request_id="~" * 128, channel="wecom-2", language_code="zh-Hans-CN")),
    (checks.converse, ask(sender=pb.Sender(id="长" * 128, display_name="名" * 64))),
    (checks.converse, options(temperature=0.0, max_output_tokens=1, model="m")),
    (checks.converse, options(temperature=2.0, max_output_tokens=32768)),
    (checks.converse, options(delta_interval=span(seconds=2))),
    (checks.submit, owe(address=b"\xff" * 4096)),
    (checks.submit, owe(account="channels/" + "A.z_-9" * 10 + "/accounts/x")),
    (checks.batch, pb.BatchConverseRequest(requests=[pb.ConverseRequest()] * 256)),
    (checks.rate, pb.RateTurnRequest(name=TURN)),
    (checks.list_turns, pb.ListTurnsRequest(parent="conversations/a", page_size=2**31 - 1)),
    (checks.push, push(recipient="聊" * 256, assistant="assistants/ops")),
    (checks.push, push(recipient="", content=parts(*[pb.Part(text="a")] * 32))),
    (checks.push, push(content=parts(pb.Part(media=pb.Media(mime_type="a/b+json", inline_data=b"{}"))))),
    (checks.hello, greet(instance="实例", max_open_deliveries=1024)),
    (checks.result, outcome(progress=b"x" * 4096, detail="长" * 9000, outcome=channel.DeliveryResult.RETRY)),
    (checks.result, outcome(retry_delay=span(seconds=3600))),
]

BAD: list[tuple[Callable[[Any], Any], Any, str, str]] = [
    (checks.converse, ask(conversation="a"), "conversation", "must be conversations/"),
    (checks.converse, ask(conversation="conversations/"), "conversation", "must be"),
    (checks.converse, ask(conversation="conversations/张三"), "conversation", "must be"),
    (checks.converse, ask(conversation="conversations/a\n"), "conversation", "must be"),
    (checks.converse, ask(conversation="conversations/" + "a" * 129), "conversation", "1 to 128"),
    (checks.converse, ask(input=pb.Content()), "input", "is required"),
    (checks.converse, ask(input=parts(pb.Part())), "input.parts[0]", "text or media"),
    (checks.converse, ask(input=parts(pb.Part(text=" \n　"))), "input", "white space"),
    (checks.converse, ask(input=parts(*[pb.Part(text="a")] * 65)), "input.parts", "65 entries"),
    (checks.converse, media(mime_type=""), "input.parts[0].media.mime_type", "is required"),
    (checks.converse, media(mime_type="png"), "input.parts[0].media.mime_type", "IANA"),
    (
        checks.converse,
        media(inline_data=b"x" * (checks.MAX_INLINE_BYTES + 1)),
        "input.parts[0].media.inline_data",
        "uri",
    ),
    (
        checks.converse,
        ask(
            input=parts(
                *[pb.Part(media=pb.Media(mime_type="image/png", inline_data=b"x" * (checks.MAX_INLINE_BYTES // 2 + 1)))]
                * 2
            )
        ),
        "input.parts[1].media.inline_data",
        "all parts",
    ),
    (checks.converse, media(uri="http://example.com"), "input.parts[0].media.uri", "https"),
    (checks.converse, media(uri=""), "input.parts[0].media.uri", "https"),
    (
        checks.converse,
        media(inline_data=b"x", missing=pb.Media.DAMAGED),
        "input.parts[0].media.missing",
        "unset",
    ),
    (checks.converse, ask(request_id="a b"), "request_id", "must be"),
    (checks.converse, ask(request_id="a" * 129), "request_id", "1 to 128"),
    (checks.converse, ask(sender=pb.Sender(display_name="x")), "sender.id", "is required"),
    (checks.converse, ask(sender=pb.Sender(id="x" * 129)), "sender.id", "128"),
    (checks.converse, ask(sender=pb.Sender(id="x", display_name="名" * 65)), "sender.display_name", "64"),
    (checks.converse, ask(assistant="default"), "assistant", "assistants/"),
    (checks.converse, ask(channel="WeCom"), "channel", "[a-z0-9-]"),
    (checks.converse, ask(language_code="中文"), "language_code", "BCP-47"),
    (checks.converse, options(model=""), "options.model", "leave it out"),
    (checks.converse, options(temperature=2.1), "options.temperature", "[0.0, 2.0]"),
    (checks.converse, options(temperature=float("nan")), "options.temperature", "nan"),
    (checks.converse, options(temperature=float("inf")), "options.temperature", "inf"),
    (checks.converse, options(temperature=-0.1), "options.temperature", "[0.0, 2.0]"),
    (checks.converse, options(max_output_tokens=0), "options.max_output_tokens", "[1, 32768]"),
    (checks.converse, options(max_output_tokens=32769), "options.max_output_tokens", "[1, 32768]"),
    (
        checks.converse,
        options(delta_interval=span(seconds=2, nanos=1)),
        "options.delta_interval",
        "2 s",
    ),
    (checks.converse, options(delta_interval=span(nanos=-1)), "options.delta_interval", "0 s"),
    (checks.converse, options(delta_interval=span(nanos=2**30)), "options.delta_interval", "2 s"),
    (checks.submit, pb.SubmitTurnRequest(account="channels/a/accounts/b"), "turn", "is required"),
    (checks.submit, owe(turn=ask()), "turn.request_id", "is required here"),
    (checks.submit, owe(turn=pb.ConverseRequest()), "turn.conversation", "is required"),
    (checks.submit, owe(account=""), "account", "is required"),
    (checks.submit, owe(account="channels/a/accounts/" + "b" * 65), "account", "1 to 64"),
    (checks.submit, owe(account="channels/a~/accounts/b"), "account", "1 to 64"),
    (checks.submit, owe(address=b"x" * 4097), "address", "4096"),
    (checks.batch, pb.BatchConverseRequest(requests=[pb.ConverseRequest()] * 257), "requests", "257; split"),
    (checks.turn, pb.GetTurnRequest(name="conversations/a"), "name", "/turns/"),
    (checks.turn, pb.CancelTurnRequest(name=TURN + "/x"), "name", "/turns/"),
    (checks.follow, pb.FollowTurnRequest(name=TURN, after_sequence=-1), "after_sequence", "or 0"),
    (checks.list_turns, pb.ListTurnsRequest(parent="conversations/a", page_size=-1), "page_size", "0 means 50"),
    (checks.list_turns, pb.ListTurnsRequest(parent="conversations/a", page_token="x" * 257), "page_token", "earlier"),
    (checks.rate, pb.RateTurnRequest(name=TURN, rater=pb.Sender()), "rater.id", "is required"),
    (checks.conversation, pb.GetConversationRequest(name="conversations/a/turns/b"), "name", "must be"),
    (checks.assistant, pb.GetAssistantRequest(name="assistants/"), "name", "must be"),
    (checks.push, push(account="robot"), "account", "channels/"),
    (checks.push, push(recipient="x" * 257), "recipient", "256"),
    (checks.push, push(content=parts()), "content", "is required"),
    (checks.push, push(content=parts(pb.Part(text=" "))), "content", "white space"),
    (checks.push, push(content=parts(*[pb.Part(text="a")] * 33)), "content.parts", "33 entries"),
    (checks.push, push(content=parts(pb.Part(media=pb.Media()))), "content.parts[0].media.mime_type", "required"),
    (
        checks.push,
        push(content=parts(pb.Part(text="a"), pb.Part(media=pb.Media(mime_type="image/png")))),
        "content.parts[1].media",
        "nothing to send",
    ),
    (checks.push, push(request_id="a b"), "request_id", "must be"),
    (checks.push, push(assistant="ops"), "assistant", "assistants/"),
    (checks.hello, None, "hello", "first message"),
    (checks.hello, outcome(), "hello", "first message"),
    (checks.hello, greet(instance="x" * 65), "hello.instance", "64"),
    (checks.hello, greet(max_open_deliveries=-1), "hello.max_open_deliveries", "0 means 64"),
    (checks.hello, greet(max_open_deliveries=1025), "hello.max_open_deliveries", "1024"),
    (checks.result, greet(), "result", "only results"),
    (checks.result, outcome(progress=b"x" * 4097), "result.progress", "4096"),
    (checks.result, outcome(retry_delay=span(seconds=-1)), "result.retry_delay", "0 s"),
]


@pytest.mark.parametrize(("check", "message"), GOOD)
def test_what_the_contract_allows_is_let_through(check: Callable[[Any], Any], message: Any) -> None:
    check(message)


@pytest.mark.parametrize(("check", "message", "field", "words"), BAD)
def test_what_it_does_not_is_refused_by_name(check: Callable[[Any], Any], message: Any, field: str, words: str) -> None:
    with pytest.raises(InvalidField) as caught:
        check(message)
    assert caught.value.field == field
    assert words in caught.value.rule


def test_an_unknown_value_of_an_enumeration_is_refused() -> None:
    unknown = pb.RateTurnRequest.FromString(pb.RateTurnRequest(name=TURN).SerializeToString() + b"\x10\x63")
    with pytest.raises(InvalidField, match="must be a known rating, and is 99"):
        checks.rate(unknown)
    raw = channel.DeliveryResult(turn=TURN).SerializeToString() + b"\x10\x63"
    with pytest.raises(InvalidField, match="must be a known outcome, and is 99"):
        checks.result(channel.AttachRequest(result=channel.DeliveryResult.FromString(raw)))


# --- whatever arrives ----------------------------------------------------------------------

ODD_TEXT = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", "conversations/a", TURN, "assistants/a", "channels/a/accounts/b", "a" * 200, "\x00", "a/b"]),
    st.from_regex(r"(conversations|channels|assistants)/[\w~.-]{0,5}(/turns/[\w~.-]{0,5})?", fullmatch=True),
)
DURATIONS = st.builds(span, seconds=st.integers(-5, 5), nanos=st.integers(-(2**31), 2**31 - 1))
PARTS = st.one_of(
    st.builds(pb.Part),
    st.builds(pb.Part, text=ODD_TEXT),
    st.builds(pb.Part, media=st.builds(pb.Media, mime_type=ODD_TEXT | st.just("a/b"), uri=st.none() | ODD_TEXT)),
)
SENDERS = st.none() | st.builds(pb.Sender, id=ODD_TEXT, display_name=ODD_TEXT)
ASKS = st.builds(
    pb.ConverseRequest,
    conversation=ODD_TEXT,
    input=st.builds(pb.Content, parts=st.lists(PARTS, max_size=4)),
    request_id=ODD_TEXT,
    sender=SENDERS,
    assistant=ODD_TEXT,
    channel=ODD_TEXT,
    language_code=ODD_TEXT,
    options=st.none()
    | st.builds(
        pb.TurnOptions,
        temperature=st.none() | st.floats(width=32),
        max_output_tokens=st.none() | st.integers(-(2**31), 2**31 - 1),
        delta_interval=st.none() | DURATIONS,
    ),
)


def refused(check: Callable[[Any], Any], message: Any) -> bool:
    try:
        check(message)
    except InvalidField as error:
        return bool(error.field and error.rule)
    return False


@settings(max_examples=400)
@given(ASKS)
def test_a_turn_is_refused_or_can_be_converted(message: pb.ConverseRequest) -> None:
    if not refused(checks.converse, message):
        asked = convert.ask(message, "made-here", "caller")
        assert asked.name.conversation
        assert asked.name.request_id == (message.request_id or "made-here")
        assert asked.input.text.strip() or asked.input.media
        assert 0 <= asked.options.delta_interval <= 2


@settings(max_examples=200)
@given(ODD_TEXT)
def test_a_name_is_refused_or_is_what_it_says(name: str) -> None:
    if not refused(checks.turn, pb.GetTurnRequest(name=name)):
        assert str(convert.turn_name(name)) == name
    if not refused(checks.conversation, pb.GetConversationRequest(name=name)):
        assert f"conversations/{convert.conversation_id(name)}" == name


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_any_bytes_that_parse_are_refused_or_converted(raw: bytes) -> None:
    for kind, check, turn_into in (
        (pb.ConverseRequest, checks.converse, lambda message: convert.ask(message, "id", "")),
        (pb.SubmitTurnRequest, checks.submit, convert.owed),
        (channel.PushRequest, checks.push, lambda message: convert.push(message, "")),
        (channel.AttachRequest, checks.hello, lambda message: convert.hello(message.hello)),
        (channel.AttachRequest, checks.result, lambda message: convert.report(message.result)),
    ):
        try:
            message = kind.FromString(raw)
        except DecodeError:
            continue
        if not refused(check, message):
            turn_into(message)
