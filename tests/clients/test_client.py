"""The asyncio client against the fake service, over a real connection."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from weconverse import (
    CallerUnknown,
    Content,
    Conversation,
    ConversationBusy,
    ConversationClient,
    ConverseRequest,
    DeadlineExceeded,
    HistoryMessage,
    InvalidField,
    Media,
    Overloaded,
    Part,
    RateLimited,
    RateTurnRequest,
    RequestIdReused,
    ResourceNotFound,
    Sender,
    Turn,
    TurnOptions,
    TurnQuarantined,
    Unavailable,
    WeConverseError,
    conversation_name,
    converse_request,
    text_of,
    turn_name,
)
from weconverse.testing import FakeService, HandOver, Offer
from weconverse.v1.channel_pb2 import PushRequest
from weconverse.v1.conversation_pb2 import Choice, SubmitTurnRequest


@pytest.fixture
async def fake() -> AsyncIterator[FakeService]:
    async with FakeService({"ping": "pong", "broken": TurnQuarantined("no")}) as service:
        yield service


@pytest.fixture
async def client(fake: FakeService) -> AsyncIterator[ConversationClient]:
    async with ConversationClient(fake.target, timeout=10) as made:
        yield made


async def test_a_turn_is_answered(client: ConversationClient, fake: FakeService) -> None:
    turn = await client.converse("demo", "ping")
    assert text_of(turn.reply) == "pong"
    assert turn.state == Turn.SUCCEEDED
    assert turn.name.startswith("conversations/demo/turns/")


async def test_everything_that_may_be_said_about_a_turn_arrives(client: ConversationClient, fake: FakeService) -> None:
    await client.converse(
        "conversations/demo",
        [Part(text="看图"), Part(media=Media(mime_type="image/png", uri="https://example.com/a.png"))],
        request_id="m-1",
        sender=Sender(id="u1", display_name="王芳"),
        assistant="sales",
        channel="web",
        language_code="zh-CN",
        options=TurnOptions(bypass_cache=True, intent="technical"),
        history=[HistoryMessage(role=HistoryMessage.PERSON, text="我叫小明")],
    )
    [request] = fake.requests("Converse", ConverseRequest)
    assert request == ConverseRequest(
        conversation="conversations/demo",
        input=Content(
            parts=[Part(text="看图"), Part(media=Media(mime_type="image/png", uri="https://example.com/a.png"))]
        ),
        request_id="m-1",
        sender=Sender(id="u1", display_name="王芳"),
        assistant="assistants/sales",
        channel="web",
        language_code="zh-CN",
        options=TurnOptions(bypass_cache=True, intent="technical"),
        history=[HistoryMessage(role=HistoryMessage.PERSON, text="我叫小明")],
    )


async def test_a_content_is_taken_as_it_is(client: ConversationClient, fake: FakeService) -> None:
    message = Content(parts=[Part(text="a"), Part(text="b")])
    await client.converse("demo", message)
    assert fake.requests("Converse", ConverseRequest)[0].input == message


async def test_a_request_id_is_made_up_unless_it_is_given_or_declined(
    client: ConversationClient, fake: FakeService
) -> None:
    await client.converse("demo", "1")
    await client.converse("demo", "2")
    await client.converse("demo", "3", request_id="mine")
    await client.converse("demo", "4", request_id="")
    identities = [request.request_id for request in fake.requests("Converse", ConverseRequest)]
    assert len(set(identities)) == 4
    assert identities[2:] == ["mine", ""]
    assert len(identities[0]) == 32


async def test_the_same_request_id_is_the_same_turn(client: ConversationClient, fake: FakeService) -> None:
    first = await client.converse("demo", "ping", request_id="1")
    second = await client.converse("demo", "ping", request_id="1")
    assert first == second
    assert len(fake.turns()) == 1
    with pytest.raises(RequestIdReused) as caught:
        await client.converse("demo", "pong", request_id="1")
    assert caught.value.metadata == {"turn": "conversations/demo/turns/1"}


async def test_every_call_has_a_deadline(client: ConversationClient, fake: FakeService) -> None:
    await client.converse("demo", "ping", request_id="1")
    name = turn_name("demo", "1")
    await client.get_turn(name)
    await client.cancel_turn(name)
    await client.rate_turn(name, RateTurnRequest.HELPFUL)
    await client.get_conversation("demo")
    await client.list_turns_page("demo")
    await client.get_assistant()
    await client.submit("demo", "x", request_id="2", account="channels/web/accounts/a")
    async with client.stream("demo", "x") as stream:
        await stream.result()
    async with client.follow(name) as stream:
        await stream.result()
    async with client.batch([converse_request("demo", "x")]) as results:
        assert len([result async for result in results]) == 1
    async with client.attach("channels/web/accounts/b", "i") as session:
        await anext(session)
    await client.reset("demo")
    await client.delete("demo")
    assert len({call.method for call in fake.calls}) == 14
    assert [call.method for call in fake.calls if call.timeout is None] == []
    assert all(0 < (call.timeout or 0) < 10.1 for call in fake.calls if call.method != "Attach")


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
async def test_a_timeout_that_is_none_is_refused(timeout: float, client: ConversationClient) -> None:
    with pytest.raises(ValueError, match="timeout"):
        ConversationClient(timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        await client.converse("demo", "x", timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        client.attach("channels/web/accounts/a", "i", lifetime=timeout)


async def test_a_deadline_ends_a_call_of_a_turn_that_never_ends(client: ConversationClient, fake: FakeService) -> None:
    async def never(request: ConverseRequest) -> AsyncIterator[str]:
        yield "好"
        await asyncio.Event().wait()

    fake.answer(never)
    with pytest.raises(DeadlineExceeded):
        await client.converse("demo", "x", timeout=0.1)
    async with client.stream("demo2", "x", timeout=0.2) as stream:
        with pytest.raises(DeadlineExceeded):
            await stream.result()
        assert stream.text == "好"


async def test_turns_can_be_looked_at_listed_rated_and_cancelled(client: ConversationClient, fake: FakeService) -> None:
    for number in range(5):
        await client.converse("demo", f"q{number}", request_id=str(number))
    listed = [text_of(turn.input) async for turn in client.list_turns("demo", page_size=2)]
    assert listed == ["q4", "q3", "q2", "q1", "q0"]
    assert sum(call.method == "ListTurns" for call in fake.calls) == 3
    page = await client.list_turns_page("demo", page_size=2)
    assert (len(page.turns), page.next_page_token) == (2, "2")

    name = turn_name("demo", "3")
    whole = await client.get_turn(name)
    assert (whole.name, whole.HasField("input")) == (name, True)
    whole.ClearField("input")
    assert await client.get_turn(name, omit_input=True) == whole
    assert (await client.cancel_turn(name)).state == Turn.SUCCEEDED
    await client.rate_turn(name, RateTurnRequest.UNHELPFUL, comment="不对", rater=Sender(id="u"))
    assert [(rating.name, rating.comment) for rating in fake.ratings] == [(name, "不对")]


async def test_a_conversation_can_be_looked_at_reset_and_deleted(client: ConversationClient) -> None:
    await client.converse("demo", "ping")
    assert (await client.get_conversation("demo")).remembered_message_count == 2
    assert (await client.reset("conversations/demo")).remembered_message_count == 0
    assert [turn.state async for turn in client.list_turns("demo")] == [Turn.SUCCEEDED]
    await client.delete("demo")
    with pytest.raises(ResourceNotFound) as caught:
        await client.get_conversation("demo")
    assert caught.value.metadata == {"resourceName": "conversations/demo"}


async def test_an_assistant_greets(client: ConversationClient) -> None:
    assistant = await client.get_assistant("sales")
    assert (assistant.name, assistant.greeting) == ("assistants/sales", "你好,有什么可以帮你?")


async def test_a_batch_gives_each_result_or_its_error(client: ConversationClient, fake: FakeService) -> None:
    requests = [converse_request(f"c{number}", text) for number, text in enumerate(["ping", "broken", "hey"])]
    async with client.batch(requests) as results:
        found = {index: result async for index, result in results}
    assert sorted(found) == [0, 1, 2]
    assert isinstance(found[0], Turn)
    assert text_of(found[0].reply) == "pong"
    assert isinstance(found[1], TurnQuarantined)
    assert isinstance(found[2], Turn)
    with pytest.raises(RuntimeError, match="once"):
        await results.__aenter__()


async def test_a_batch_is_opened_by_its_context(client: ConversationClient) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await anext(client.batch([]))
    await client.batch([]).__aexit__(None, None, None)


async def test_submit_owes_and_repeats_harmlessly(client: ConversationClient, fake: FakeService) -> None:
    account = "channels/web/accounts/main"
    turn = await client.submit("demo", "ping", request_id="7", account=account, address=b"to")
    again = await client.submit("demo", "ping", request_id="7", account=account, address=b"to")
    assert turn.name == again.name == "conversations/demo/turns/7"
    assert turn.delivery_state == Turn.OWED
    assert fake.requests("SubmitTurn", SubmitTurnRequest)[0].address == b"to"
    with pytest.raises(ValueError, match="request_id"):
        await client.submit("demo", "ping", request_id="", account=account)


@pytest.mark.parametrize("error", [RateLimited, ConversationBusy, Overloaded, Unavailable])
async def test_a_call_waits_as_long_as_the_service_says(
    error: type[WeConverseError], client: ConversationClient, fake: FakeService
) -> None:
    fake.fail_next(error("later", retry_after=0.05), method="Converse")
    loop = asyncio.get_running_loop()
    begun = loop.time()
    turn = await client.converse("demo", "ping")
    assert text_of(turn.reply) == "pong"
    calls = fake.requests("Converse", ConverseRequest)
    assert len(calls) == 2
    assert calls[0].request_id == calls[1].request_id != ""
    assert loop.time() - begun >= 0.05


async def test_a_call_does_not_wait_beyond_its_deadline_nor_for_ever(
    client: ConversationClient, fake: FakeService
) -> None:
    fake.fail_next(RateLimited("later", retry_after=5), method="Converse")
    loop = asyncio.get_running_loop()
    begun = loop.time()
    with pytest.raises(RateLimited) as caught:
        await client.converse("demo", "ping", timeout=1)
    assert caught.value.retry_after == 5
    assert loop.time() - begun < 1
    fake.fail_next(RateLimited("later", retry_after=0.01), method="GetAssistant", times=100)
    with pytest.raises(RateLimited):
        await client.get_assistant()
    assert sum(call.method == "GetAssistant" for call in fake.calls) == 4


async def test_waiting_can_be_declined(fake: FakeService) -> None:
    fake.fail_next(RateLimited("later", retry_after=0.01))
    async with ConversationClient(fake.target, honour_retry_info=False) as client:
        with pytest.raises(RateLimited):
            await client.converse("demo", "ping")
    assert len(fake.calls) == 1


async def test_without_retry_info_nothing_is_repeated(client: ConversationClient, fake: FakeService) -> None:
    fake.fail_next(RateLimited("no"))
    with pytest.raises(RateLimited):
        await client.converse("demo", "ping")
    assert len(fake.calls) == 1


async def test_a_cancelled_child_ends_its_call_and_nothing_else(client: ConversationClient, fake: FakeService) -> None:
    async def never(request: ConverseRequest) -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield ""

    fake.answer(never)
    child = asyncio.create_task(client.converse("demo", "x", request_id=""))
    await fake.until(lambda: len(fake.turns()) == 1)
    child.cancel()
    with pytest.raises(asyncio.CancelledError):
        await child
    await fake.until(lambda: fake.turns()[0].state == Turn.CANCELLED, timeout=1)
    assert (await client.get_assistant()).version == "fake"


async def test_a_token_and_further_headers_accompany_each_call() -> None:
    def headers() -> dict[str, str]:
        return {"traceparent": "00-1-2-01"}

    async with FakeService(token="s3cret") as fake:
        async with ConversationClient(fake.target, token="s3cret", headers=headers) as client:
            await client.get_assistant()
        async with ConversationClient(fake.target) as stranger:
            with pytest.raises(CallerUnknown):
                await stranger.get_assistant()
        assert fake.calls[0].metadata["authorization"] == "Bearer s3cret"
        assert fake.calls[0].metadata["traceparent"] == "00-1-2-01"
        assert fake.calls[0].metadata["user-agent"].startswith("weconverse-client/0.1.0 ")


@pytest.mark.parametrize(
    "target", ["example.com:443", "dns:///example.com:443", "10.0.0.1:50051", "dns://8.8.8.8/localhost:1", "[::]:1"]
)
def test_a_token_does_not_leave_this_machine_in_plain_text(target: str) -> None:
    with pytest.raises(ValueError, match="plain text"):
        ConversationClient(target, token="t")
    ConversationClient(target)
    ConversationClient(target, token="t", credentials=grpc.ssl_channel_credentials())


@pytest.mark.parametrize("token", ["", "a b", "令牌", "a\n"])
def test_a_token_that_cannot_be_sent_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="ASCII"):
        ConversationClient(token=token)


async def test_a_client_needs_no_context_and_belongs_to_its_loop(fake: FakeService) -> None:
    client = ConversationClient(fake.target)
    assert (await client.get_assistant()).version == "fake"

    def elsewhere() -> None:
        asyncio.run(client.get_assistant())

    with pytest.raises(RuntimeError, match="event loop"):
        await asyncio.to_thread(elsewhere)
    await client.aclose()
    await client.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await client.get_assistant()
    await ConversationClient().aclose()


async def test_names_may_be_short_and_wrong_ones_are_told(client: ConversationClient) -> None:
    assert conversation_name("x") == conversation_name("conversations/x") == "conversations/x"
    assert turn_name("x", "1") == "conversations/x/turns/1"
    for wrong in ("", "conversations/", "conversations/x/turns/1", "assistants/x"):
        with pytest.raises(ValueError, match="conversations"):
            conversation_name(wrong)
    for wrong in ("", "x", "conversations/x", "conversations//turns/1", "conversations/x/turns/"):
        with pytest.raises(ValueError, match="turn"):
            await client.get_turn(wrong)
    with pytest.raises(ValueError, match="request_id"):
        turn_name("x", "a/b")
    with pytest.raises(InvalidField) as caught:
        await client.converse("with space", "x")
    assert caught.value.field == "conversation"


async def test_the_line_is_dead_where_nobody_listens(unused_tcp_port: int) -> None:
    async with ConversationClient(f"127.0.0.1:{unused_tcp_port}", timeout=10) as client:
        with pytest.raises(Unavailable) as caught:
            await client.get_assistant()
    assert caught.value.reason == ""
    assert str(caught.value).startswith("UNAVAILABLE: ")


# --- a person, and the company ------------------------------------------------------------


async def test_a_conversation_is_handed_off_and_resumed(client: ConversationClient, fake: FakeService) -> None:
    with pytest.raises(ResourceNotFound):
        await client.resume("c")
    assert (await client.hand_off("c")).state == Conversation.HANDED_OFF
    quiet = await client.converse("c", "ping")
    assert (quiet.state, quiet.finish_reason, text_of(quiet.reply)) == (Turn.SUCCEEDED, Turn.HANDED_OFF, "")
    assert (await client.get_conversation("c")).state == Conversation.HANDED_OFF
    assert (await client.resume("conversations/c")).state == Conversation.ACTIVE
    assert text_of((await client.converse("c", "ping")).reply) == "pong"
    assert (await client.get_conversation("c")).remembered_message_count == 2


@pytest.mark.parametrize("can", [True, False])
async def test_a_scripted_hand_over(client: ConversationClient, fake: FakeService, can: bool) -> None:
    fake.answer({"转人工": HandOver("请稍候")})
    turn = await client.converse("c", "转人工", options=TurnOptions(can_hand_off=can))
    assert (turn.finish_reason, text_of(turn.reply)) == (Turn.HANDED_OFF, "请稍候")
    state = (await client.get_conversation("c")).state
    assert state == (Conversation.HANDED_OFF if can else Conversation.ACTIVE)


async def test_short_replies_on_offer_come_with_the_end(client: ConversationClient, fake: FakeService) -> None:
    given = Choice(label="退", text="我要退款")
    fake.answer({"退款": Offer("退款还是换货？", (given, "换货"))})
    async with client.stream("c", "退款") as stream:
        assert [event.delta.text async for event in stream if event.HasField("delta")]
        turn = await stream.result()
    assert (text_of(turn.reply), list(turn.choices)) == ("退款还是换货？", [given, Choice(label="换货", text="换货")])
    assert await client.get_turn(turn.name) == turn
    assert not (await client.converse("c", "换货")).choices


async def test_a_message_is_pushed_once(client: ConversationClient, fake: FakeService) -> None:
    picture = Media(mime_type="image/png", inline_data=b"png", display_name="图.png")
    parts = [Part(text="报警"), Part(media=picture)]
    account = "channels/wecom/accounts/robot"
    turn = await client.push(account, parts, recipient="user:u", request_id="A-1", assistant="ops")
    assert (turn.state, turn.delivery_state, turn.input) == (Turn.SUCCEEDED, Turn.OWED, Content())
    whole = await client.get_turn(turn.name)
    assert whole.reply == Content(parts=parts)
    assert turn.reply.parts[1].media == Media(mime_type="image/png", display_name="图.png")
    assert [one async for one in client.list_turns(turn.name.split("/")[1])] == [turn]
    assert (turn.assistant, turn.channel) == ("assistants/ops", "wecom")
    assert await client.push(account, parts, recipient="user:u", request_id="A-1") == turn
    with pytest.raises(RequestIdReused):
        await client.push(account, "别的", recipient="user:u", request_id="A-1")
    elsewhere = await client.push(account, "别的", recipient="user:v", request_id="A-1")
    assert elsewhere.name != turn.name
    made_up = [await client.push(account, "一样") for _ in range(2)]
    assert len({one.name for one in made_up}) == 2
    with pytest.raises(ValueError, match="request_id"):
        await client.push(account, "x", request_id="")
    async with client.follow(turn.name) as stream:
        assert (await stream.result()).reply == whole.reply


async def test_a_push_that_meets_a_full_service_waits_as_told(client: ConversationClient, fake: FakeService) -> None:
    fake.fail_next(Overloaded("full", retry_after=0.01), method="Push")
    await client.push("channels/wecom/accounts/robot", "报警")
    first, second = fake.requests("Push", PushRequest)
    assert first.request_id == second.request_id
