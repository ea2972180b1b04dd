"""What travels to another server, and what its events become."""

import contextlib
import re
from collections.abc import Iterable, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import errors
from server.domain import FinishReason, Usage
from server.llm.base import ROUTE_LOOP, Chunk, ErrorClass, Image, LimitReached, Message, Prompt, ProviderError, Role
from server.llm.weconverse_shapes import MAX_HISTORY_BYTES, REASONS, EventReader, error_of, request_of
from server.rpc import checks, convert
from weconverse._reply import Reply
from weconverse.v1 import conversation_pb2 as pb
from weconverse.v1.error_reason_pb2 import ErrorReason

PROMPT = Prompt(
    model="centre",
    messages=(
        Message(Role.SYSTEM, "你是助手"),
        Message(Role.USER, "我叫小明"),
        Message(Role.ASSISTANT, "你好，小明"),
        Message(Role.USER, "我叫什么？"),
    ),
    temperature=0.3,
    max_output_tokens=99,
    request_id="m-1",
    user="u-1",
    conversation="wecom.a",
    via=("far",),
)


def changed(**fields: object) -> Prompt:
    return msgspec.structs.replace(PROMPT, **fields)


def asked(prompt: Prompt, assistant: str = "", node_id: str = "here") -> pb.ConverseRequest:
    request = request_of(prompt, assistant=assistant, node_id=node_id)
    checks.converse(request)  # what leaves here must be let in there
    return request


# --- the request -------------------------------------------------------------------------


def test_the_question_travels_with_its_memory_and_without_instructions() -> None:
    request = asked(PROMPT, assistant="hr")
    ask = convert.ask(request, "", "")
    assert ask.name.conversation == "wecom.a"
    assert (ask.input.text, ask.input.media) == ("我叫什么？", ())
    assert [(said.by_person, said.text) for said in ask.history] == [(True, "我叫小明"), (False, "你好，小明")]
    assert ask.via == ("far", "here")
    assert ask.assistant == "hr"
    assert ask.sender is not None
    assert ask.sender.id == "u-1"
    options = ask.options
    assert (options.temperature, options.max_output_tokens, options.include_reasoning) == (0.3, 99, True)
    assert options.bypass_memory, "the other server's memory knows nothing of a reset here"


def test_what_is_not_said_is_not_sent() -> None:
    bare = Prompt(model="centre", messages=(Message(Role.USER, "你好"),))
    request = asked(bare)
    assert not request.HasField("sender")
    assert not request.options.HasField("temperature")
    assert not request.options.HasField("max_output_tokens")
    assert request.assistant == ""
    assert not request.history


def test_pictures_travel_as_bytes_or_as_addresses() -> None:
    images = (Image("image/png", data=b"png"), Image("image/jpeg", uri="https://example.com/a.jpg"))
    for text in ("", "看图"):
        request = asked(changed(messages=(Message(Role.USER, text, images),)))
        media = [part.media for part in request.input.parts if part.HasField("media")]
        assert (media[0].mime_type, media[0].inline_data) == ("image/png", b"png")
        assert (media[1].mime_type, media[1].uri) == ("image/jpeg", "https://example.com/a.jpg")
        assert len(request.input.parts) == 2 + bool(text)


def test_the_same_question_has_the_same_name_and_any_other_another() -> None:
    name = asked(PROMPT).request_id
    assert name.startswith("m-1-")
    assert asked(changed(via=("elsewhere",)), node_id="there").request_id == name, "a restarted node attaches"
    others = [
        asked(PROMPT, assistant="hr"),
        asked(changed(request_id="m-2")),
        asked(changed(conversation="wecom.b")),
        asked(changed(user="u-2")),
        asked(changed(temperature=0.4)),
        asked(changed(max_output_tokens=None)),
        asked(changed(messages=PROMPT.messages[1:])),
        asked(changed(messages=(*PROMPT.messages[:-1], Message(Role.USER, "我叫什么？", (Image("image/png", b"a"),))))),
    ]
    names = [request.request_id for request in others]
    assert len({name, *names}) == len(names) + 1


@given(
    st.from_regex(re.compile(r"[a-zA-Z0-9._~-]{0,128}"), fullmatch=True),
    st.text(st.characters(categories=("L", "N")), max_size=300),
)
def test_every_name_and_person_is_let_in_by_the_other_server(request_id: str, user: str) -> None:
    request = asked(changed(request_id=request_id, conversation=request_id, user=user))
    assert request.sender.id or not user


def test_a_long_memory_loses_its_beginning_and_long_answers_their_end() -> None:
    rounds = [Message(Role.USER if number % 2 == 0 else Role.ASSISTANT, f"{number}") for number in range(300)]
    kept = asked(changed(messages=(*rounds, PROMPT.messages[-1]))).history
    assert [message.text for message in kept] == [str(number) for number in range(100, 300)]
    long = [Message(Role.ASSISTANT, "长" * 30_000)] * 30
    kept = asked(changed(messages=(*long, PROMPT.messages[-1]))).history
    assert {len(message.text) for message in kept} == {20_000}
    assert sum(len(message.text.encode()) for message in kept) <= MAX_HISTORY_BYTES
    assert len(kept) == MAX_HISTORY_BYTES // 60_000
    picture_only = (Message(Role.USER, ""), Message(Role.ASSISTANT, "一只猫"), PROMPT.messages[-1])
    assert [message.text for message in asked(changed(messages=picture_only)).history] == ["一只猫"]


def test_too_many_servers_are_a_loop_before_anything_is_sent() -> None:
    assert len(asked(changed(via=("n",) * 7)).via) == 8
    with pytest.raises(ProviderError) as caught:
        asked(changed(via=("n",) * 8))
    assert (caught.value.kind, caught.value.code) == (ErrorClass.BAD_REQUEST, ROUTE_LOOP)


# --- the reply ---------------------------------------------------------------------------


def stream(*events: pb.StreamConverseResponse, attached: bool = False) -> list[pb.StreamConverseResponse]:
    """The events of a turn, numbered, behind ``started``."""
    first = pb.StreamConverseResponse(started=pb.TurnStarted(turn="conversations/a/turns/b", attached=attached))
    numbered = []
    for number, event in enumerate((first, *events), 1):
        copy = pb.StreamConverseResponse()
        copy.CopyFrom(event)
        copy.sequence = number
        numbered.append(copy)
    return numbered


def delta(text: str) -> pb.StreamConverseResponse:
    return pb.StreamConverseResponse(delta=pb.TextDelta(text=text))


def thought(text: str) -> pb.StreamConverseResponse:
    return pb.StreamConverseResponse(reasoning=pb.TextDelta(text=text))


def replaced(text: str, cause: str = "FAILOVER") -> pb.StreamConverseResponse:
    return pb.StreamConverseResponse(
        replacement=pb.TextReplacement(text=text, cause=pb.TextReplacement.Cause.Value(cause))
    )


def completed(reason: int = pb.Turn.STOP, state: int = pb.Turn.SUCCEEDED) -> pb.StreamConverseResponse:
    turn = pb.Turn(state=state, finish_reason=reason, usage=pb.Usage(input_token_count=3, output_token_count=5))  # type: ignore[arg-type]  # the stub's enum types exist for mypy only
    return pb.StreamConverseResponse(completed=pb.TurnCompleted(turn=turn))


PROGRESS = pb.StreamConverseResponse(progress=pb.Progress(stage=pb.Progress.QUEUED))


def read(*streams: Iterable[pb.StreamConverseResponse], reader: EventReader | None = None) -> list[Chunk]:
    """The chunks of a reply whose events came over these streams, one after the other."""
    reader = reader or EventReader("centre")
    chunks = []
    for event in (event for events in streams for event in events):
        reader.feed(event)
        if reader.failure is not None:
            break
        if (chunk := reader.take()) is not None:
            chunks.append(chunk)
    return [*chunks, reader.close()]


def shown(chunks: Sequence[Chunk]) -> list[str]:
    """What a person sees after each chunk that changes it."""
    texts, text = [], ""
    for chunk in chunks:
        if chunk.restart:
            text = ""
        if chunk.text:
            text += chunk.text
            texts.append(text)
    return texts


def test_a_reply_becomes_chunks_with_one_end() -> None:
    chunks = read(stream(PROGRESS, thought("嗯"), delta("你"), delta("好"), completed()))
    assert chunks == [
        Chunk(reasoning="嗯", model="centre"),
        Chunk("你"),
        Chunk("好"),
        Chunk(finish=FinishReason.STOP, usage=Usage(3, 5), model="centre"),
    ]


@pytest.mark.parametrize("reason", [each for each in FinishReason if each not in (0, 9)])
def test_every_end_passes_through_as_it_is(reason: FinishReason) -> None:
    chunks = read(stream(delta("一句话"), completed(reason.value)))
    assert chunks[-1].finish is reason


@pytest.mark.parametrize("reason", [FinishReason.UNSPECIFIED, FinishReason.MERGED])
def test_an_end_that_is_none_completes_nothing(reason: FinishReason) -> None:
    with pytest.raises(ProviderError) as caught:
        read(stream(delta("一句话"), completed(reason.value)))
    assert caught.value.kind is ErrorClass.INCOMPLETE


def test_an_end_of_a_newer_server_is_an_end_that_nothing_remembers() -> None:
    reader = EventReader("centre")
    assert read(stream(delta("新"), completed(77)), reader=reader)[-1].finish is FinishReason.FLOW
    assert reader.unknown_finish == "77"


@pytest.mark.parametrize("state", [pb.Turn.FAILED, pb.Turn.CANCELLED, pb.Turn.RUNNING])
def test_a_turn_that_did_not_succeed_is_no_reply(state: int) -> None:
    with pytest.raises(ProviderError) as caught:
        read(stream(delta("一句"), completed(state=state)))
    assert caught.value.kind is ErrorClass.INCOMPLETE


def test_a_failover_there_never_blanks_what_a_person_sees_here() -> None:
    events = stream(delta("甲说到一"), replaced(""), thought("乙想"), delta(" \n"), delta("乙从头说"), completed())
    chunks = read(events)
    assert shown(chunks) == ["甲说到一", " \n乙从头说"]
    assert [chunk.restart for chunk in chunks if chunk.text] == [False, True]
    assert chunks[-1].finish is FinishReason.STOP
    with_text = read(stream(delta("甲说到一"), replaced("乙"), delta("说"), completed()))
    assert shown(with_text) == ["甲说到一", "乙", "乙说"]


def test_a_replacement_before_any_text_is_a_beginning() -> None:
    chunks = read(stream(replaced(""), delta("你好"), completed()))
    assert [chunk.restart for chunk in chunks] == [False, False]


def test_a_filter_with_a_sentence_stands_and_one_without_is_a_refusal() -> None:
    events = stream(delta("不该说的"), replaced("这句话不能显示", "FILTERED"), completed(pb.Turn.OUTPUT_BLOCKED))
    chunks = read(events)
    assert shown(chunks) == ["不该说的", "这句话不能显示"]
    assert chunks[-1].finish is FinishReason.OUTPUT_BLOCKED
    for before in ([delta("不该说的"), replaced("", "FILTERED")], []):
        with pytest.raises(ProviderError) as caught:
            read(stream(*before, completed(pb.Turn.OUTPUT_BLOCKED)))
        assert caught.value.kind is ErrorClass.CONTENT
    withheld = read(stream(delta("一半"), replaced("", "FILTERED"), completed(pb.Turn.PROVIDER_BLOCKED)))
    assert withheld[-1].finish is FinishReason.PROVIDER_BLOCKED


def test_a_reply_that_was_taken_back_for_nothing_is_not_complete() -> None:
    with pytest.raises(ProviderError) as caught:
        read(stream(delta("甲"), replaced(""), delta(" "), completed()))
    assert caught.value.kind is ErrorClass.INCOMPLETE


def test_a_missing_event_is_noticed_wherever_it_is() -> None:
    events = stream(delta("一"), delta("二"), thought("想"), delta("三"), completed())
    for missing in range(1, len(events)):
        with pytest.raises(ProviderError) as caught:
            read(events[:missing], events[missing + 1 :])
        assert caught.value.kind is ErrorClass.INCOMPLETE


REPLY = (PROGRESS, thought("想"), delta("一"), delta("二"), replaced(""), delta("三"), delta("四"), completed())


@pytest.mark.parametrize("cut", range(1, len(REPLY) + 1))
def test_a_line_that_is_cut_anywhere_goes_on_where_it_was(cut: int) -> None:
    whole = read(stream(*REPLY))
    again = read(stream(*REPLY)[:cut], stream(*REPLY, attached=True))
    assert again == whole


@pytest.mark.parametrize("cut", range(1, len(REPLY) + 1))
def test_a_turn_that_was_lost_is_begun_anew_in_the_same_bubble(cut: int) -> None:
    another = stream(thought("再想"), delta("五"), delta("六"), completed())
    chunks = read(stream(*REPLY)[:cut], another)
    texts = shown(chunks)
    assert texts[-1] == "五六"
    assert all(texts), "nobody sees nothing"
    assert [chunk.finish for chunk in chunks if chunk.finish] == [FinishReason.STOP]


PIECES = st.one_of(
    st.builds(delta, st.sampled_from(["一", "二三", " ", "\n"])),
    st.builds(thought, st.just("想")),
    st.builds(replaced, st.sampled_from(["", "", "换", " "])),
    st.just(PROGRESS),
)


@given(st.lists(PIECES, max_size=12), st.lists(st.integers(1, 13), max_size=4))
def test_whatever_comes_over_whatever_lines_adds_up_to_what_the_client_reads(
    pieces: list[pb.StreamConverseResponse], cuts: list[int]
) -> None:
    events = stream(*pieces, completed())
    referee = Reply()
    for event in events:
        referee.add(event)
    attached = stream(*pieces, completed(), attached=True)
    lines = [events[: cuts[0]], *(attached[:cut] for cut in cuts[1:]), attached] if cuts else [events]
    if not referee.text.strip():
        with contextlib.suppress(ProviderError):  # a reply that shows nothing is none, if anything was shown before
            read(*lines)
        return
    chunks = read(*lines)
    assert shown(chunks)[-1] == referee.text
    assert all(chunk.text.strip() for chunk in chunks if chunk.restart), "nobody sees nothing"
    assert [chunk.finish for chunk in chunks if chunk.finish] == [FinishReason.STOP]


# --- errors ------------------------------------------------------------------------------


def test_every_reason_of_the_contract_has_a_class() -> None:
    assert set(ErrorReason.keys()) - set(REASONS) == {"ERROR_REASON_UNSPECIFIED"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.RateLimited("model", "50 requests per minute", 3.0), ErrorClass.RATE_LIMIT),
        (errors.Overloaded(2.0), ErrorClass.OVERLOADED),
        (errors.ConversationBusy(5, 2.0), ErrorClass.TRANSIENT),
        (errors.NoRouteAvailable(3, 2.0), ErrorClass.OVERLOADED),
        (errors.ReplyInterrupted("m"), ErrorClass.INCOMPLETE),
        (errors.CallerUnknown("no"), ErrorClass.AUTH),
        (errors.InputTooLong(1, 2), ErrorClass.CONTEXT),
        (errors.RouteLoop("far"), ErrorClass.BAD_REQUEST),
        (errors.ResourceNotFound("assistants/x"), ErrorClass.NOT_FOUND),
    ],
)
def test_an_error_keeps_its_class_its_reason_and_its_wait(error: errors.DomainError, kind: ErrorClass) -> None:
    failure = error.as_failure()
    found = error_of(failure.reason, failure.message, failure.metadata, status=14, retry_after=failure.retry_after)
    assert found is not None
    assert (found.kind, found.code, found.retry_after) == (kind, failure.reason, failure.retry_after)


def test_a_limit_of_one_person_is_nobody_elses() -> None:
    failure = errors.RateLimited("person", "5 requests per minute", 7.0).as_failure()
    found = error_of(failure.reason, failure.message, failure.metadata, status=8, retry_after=7.0)
    assert isinstance(found, LimitReached)
    assert (found.scope, found.limit, found.retry_after) == ("person", "5 requests per minute", 7.0)


def test_a_reason_of_a_newer_server_is_left_to_its_status() -> None:
    assert error_of("NEW_REASON", "", {}, status=2, retry_after=None) is None
