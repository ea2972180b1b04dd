"""The lease of a channel adapter: offers, reports, grants, and the end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.clients.raw import serving
from weconverse import (
    ChannelSession,
    ConversationClient,
    ConverseRequest,
    DeadlineExceeded,
    Delivery,
    DeliveryResult,
    Granted,
    InvalidField,
    Overloaded,
    Revoked,
    Turn,
    Unavailable,
    text_of,
)
from weconverse.testing import FakeService
from weconverse.v1.channel_pb2 import AttachResponse, Hello

ACCOUNT = "channels/web/accounts/main"


@pytest.fixture
async def fake() -> AsyncIterator[FakeService]:
    async with FakeService() as service:
        yield service


@pytest.fixture
async def client(fake: FakeService) -> AsyncIterator[ConversationClient]:
    async with ConversationClient(fake.target, timeout=10) as made:
        yield made


async def submit(client: ConversationClient, request_id: str, conversation: str = "c", text: str = "问") -> str:
    turn = await client.submit(conversation, text, request_id=request_id, account=ACCOUNT, address=b"to " + b"me")
    return turn.name


async def delivery(session: ChannelSession) -> Delivery:
    message = await anext(session)
    assert isinstance(message, Delivery)
    return message


async def granted(session: ChannelSession) -> int:
    message = await anext(session)
    assert isinstance(message, Granted)
    return message.epoch


async def test_what_is_owed_is_offered_and_reported(client: ConversationClient, fake: FakeService) -> None:
    async with client.attach(ACCOUNT, "i-1", max_open_deliveries=2, ended_only=True) as session:
        assert await granted(session) == 1
        name = await submit(client, "1")
        offered = await delivery(session)
        assert (offered.turn, offered.address, offered.attempt) == (name, b"to me", 1)
        assert text_of(offered.ended_turn.reply) == "你说:问"
        await session.progress(offered, b"part 1")
        await session.delivered(offered, detail="x" * 600)
    await fake.until(lambda: fake.turns()[0].delivery_state == Turn.DELIVERED)
    assert [(result.turn, result.outcome, result.progress) for result in fake.results] == [
        (name, DeliveryResult.OUTCOME_UNSPECIFIED, b"part 1"),
        (name, DeliveryResult.DELIVERED, b""),
    ]
    assert fake.results[1].detail == "x" * 500
    assert fake.calls[0].request == Hello(account=ACCOUNT, instance="i-1", max_open_deliveries=2, ended_only=True)


async def test_a_running_turn_is_offered_and_followed(client: ConversationClient, fake: FakeService) -> None:
    go_on = asyncio.Event()

    async def halting(request: ConverseRequest) -> AsyncIterator[str]:
        yield "一"
        await go_on.wait()
        yield "二"

    fake.answer(halting)
    async with client.attach(ACCOUNT, "i") as session, client.attach(ACCOUNT, "late", ended_only=True) as late:
        await granted(session)
        await granted(late)
        await submit(client, "1")
        offered = await delivery(session)
        assert not offered.HasField("ended_turn")
        async with client.follow(offered.turn) as stream:
            go_on.set()
            assert text_of((await stream.result()).reply) == "一二"
        await session.delivered(offered.turn)


async def test_a_delivery_that_may_work_later_comes_again(client: ConversationClient, fake: FakeService) -> None:
    await submit(client, "1")
    async with client.attach(ACCOUNT, "i") as session:
        await granted(session)
        first = await delivery(session)
        await session.retry(first, 0.02, progress=b"2 of 3", detail="busy")
        second = await delivery(session)
        assert (second.turn, second.attempt, second.progress) == (first.turn, 2, b"2 of 3")
        await session.undeliverable(second, "gone")
        await fake.until(lambda: fake.turns()[0].delivery_state == Turn.UNDELIVERABLE)
    assert fake.results[0].retry_delay.ToMilliseconds() == 20


async def test_a_delivery_that_waits_for_its_person_comes_when_they_write(
    client: ConversationClient, fake: FakeService
) -> None:
    await submit(client, "1")
    async with client.attach(ACCOUNT, "i") as session:
        await granted(session)
        first = await delivery(session)
        await session.waiting(first, 3600, progress=b"2 of 3", detail="five were sent")
        await fake.until(lambda: bool(fake.results))
        later = await submit(client, "2")
        again = await delivery(session)
        assert (again.turn, again.attempt, again.progress) == (first.turn, 2, b"2 of 3")
        await session.delivered(again)
        assert (await delivery(session)).turn == later
    assert fake.results[0].outcome == DeliveryResult.WAITING


async def test_a_lost_lease_is_offered_elsewhere(client: ConversationClient, fake: FakeService) -> None:
    await submit(client, "1")
    async with client.attach(ACCOUNT, "one") as one:
        await granted(one)
        assert (await delivery(one)).attempt == 1
        async with client.attach(ACCOUNT, "two") as two:
            await granted(two)
            await one.aclose()
            offered = await delivery(two)
            assert offered.attempt == 2
            await two.delivered(offered)
        with pytest.raises(Unavailable, match="closed"):
            await one.delivered(offered)


async def test_turns_of_a_conversation_come_one_at_a_time(client: ConversationClient, fake: FakeService) -> None:
    for number in range(3):
        await submit(client, str(number))
    other = await submit(client, "x", conversation="other")
    async with client.attach(ACCOUNT, "i") as session:
        await granted(session)
        assert {(await delivery(session)).turn, (await delivery(session)).turn} == {"conversations/c/turns/0", other}
        await session.delivered("conversations/c/turns/0")
        assert (await delivery(session)).turn == "conversations/c/turns/1"


async def test_an_exclusive_grant_passes_on(client: ConversationClient, fake: FakeService) -> None:
    async with (
        client.attach(ACCOUNT, "one", exclusive=True) as one,
        client.attach(ACCOUNT, "two", exclusive=True) as two,
    ):
        epoch = await granted(one)
        waiting = asyncio.create_task(granted(two))
        fake.revoke(ACCOUNT)
        revoked = await anext(one)
        assert isinstance(revoked, Revoked)
        assert revoked.epoch == epoch
        assert await waiting == epoch + 1


async def test_many_report_at_once(client: ConversationClient, fake: FakeService) -> None:
    names = [await submit(client, "1", conversation=f"c{number}") for number in range(50)]
    async with client.attach(ACCOUNT, "i") as session:
        await granted(session)
        offered = [await delivery(session) for _ in names]
        await asyncio.gather(*(session.delivered(one) for one in offered))
    await fake.until(lambda: all(turn.delivery_state == Turn.DELIVERED for turn in fake.turns()))


async def test_a_report_made_just_before_the_end_arrives(client: ConversationClient, fake: FakeService) -> None:
    await submit(client, "1")
    with pytest.raises(KeyError):
        async with client.attach(ACCOUNT, "i") as session:
            await granted(session)
            await session.delivered(await delivery(session))
            raise KeyError
    assert fake.turns()[0].delivery_state == Turn.DELIVERED


async def test_a_cancelled_reporter_takes_neither_its_report_nor_the_lease(
    client: ConversationClient, fake: FakeService
) -> None:
    await submit(client, "1")
    async with client.attach(ACCOUNT, "i") as session:
        await granted(session)
        offered = await delivery(session)
        reporter = asyncio.create_task(session.delivered(offered))
        await asyncio.sleep(0)
        reporter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reporter
        await fake.until(lambda: fake.turns()[0].delivery_state == Turn.DELIVERED)
        await submit(client, "2")
        assert (await delivery(session)).turn == "conversations/c/turns/2"


async def test_a_cancelled_reader_ends_the_lease(client: ConversationClient, fake: FakeService) -> None:
    async def holds() -> None:
        async with client.attach(ACCOUNT, "one") as session:
            async for _ in session:
                pass

    holder = asyncio.create_task(holds())
    await fake.until(lambda: len(fake.calls) == 1)
    holder.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holder
    await fake.until(lambda: not fake.service.deliveries._sessions, timeout=1)


async def test_closing_while_another_task_reads(client: ConversationClient, fake: FakeService) -> None:
    async with client.attach(ACCOUNT, "i") as session:
        await granted(session)
        reader = asyncio.create_task(anext(session, None))
        await asyncio.sleep(0)
        await session.aclose()
        assert await reader is None
    with pytest.raises(StopAsyncIteration):
        await anext(session)


async def test_reports_are_checked_before_they_are_sent(client: ConversationClient) -> None:
    session = client.attach(ACCOUNT, "i")
    with pytest.raises(ValueError, match="progress"):
        await session.progress("conversations/c/turns/1", b"x" * 4097)
    with pytest.raises(ValueError, match="turn"):
        await session.delivered("1")
    with pytest.raises(ValueError, match="seconds"):
        await session.retry("conversations/c/turns/1", -1)
    with pytest.raises(RuntimeError, match="async with"):
        await session.delivered("conversations/c/turns/1")
    with pytest.raises(RuntimeError, match="async with"):
        await anext(session)
    await session.aclose()
    async with session:
        with pytest.raises(RuntimeError, match="once"):
            await session.__aenter__()


async def test_a_refusal_is_typed(client: ConversationClient, fake: FakeService) -> None:
    fake.fail_next(Overloaded("full", retry_after=3), method="Attach")
    with pytest.raises(Overloaded) as caught:
        async with client.attach(ACCOUNT, "i") as session:
            await anext(session)
    assert caught.value.retry_after == 3
    with pytest.raises(InvalidField):
        async with client.attach("nonsense", "i") as session:
            await anext(session)


async def test_a_lifetime_ends(client: ConversationClient) -> None:
    async with client.attach(ACCOUNT, "i", lifetime=0.1) as session:
        await granted(session)
        with pytest.raises(DeadlineExceeded):
            await anext(session)
        with pytest.raises(Unavailable):
            await session.delivered("conversations/c/turns/1")


async def test_nobody_listens(unused_tcp_port: int) -> None:
    async with ConversationClient(f"127.0.0.1:{unused_tcp_port}") as client:
        with pytest.raises(Unavailable):
            async with client.attach(ACCOUNT, "i") as session:
                await anext(session)


async def test_a_service_that_does_not_end_the_stream_is_left_after_a_second() -> None:
    left = asyncio.Event()

    async def attach(request: object, context: Any) -> None:
        await context.read()
        await context.write(AttachResponse())  # A kind that this version does not know.
        await context.write(AttachResponse(granted=Granted(epoch=4)))
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    async with serving(Attach=attach) as target, ConversationClient(target) as client:
        async with client.attach(ACCOUNT, "i") as session:
            assert await granted(session) == 4
        async with asyncio.timeout(1):
            await left.wait()


async def test_a_service_that_aborts_while_reports_are_on_their_way() -> None:
    async def attach(request: object, context: Any) -> None:
        await context.read()
        await context.write(AttachResponse(granted=Granted(epoch=1)))
        await context.read()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")

    async with (
        serving(Attach=attach) as target,
        ConversationClient(target) as client,
        client.attach(ACCOUNT, "i") as session,
    ):
        await granted(session)
        with pytest.raises(Unavailable):
            while True:
                await session.delivered("conversations/c/turns/1")
        # Which of the two arrives first is the network's choice; both mean: attach again.
        with pytest.raises(Unavailable, match=r"stopping|the lease is lost"):
            await anext(session)


async def test_what_is_pushed_is_offered_with_its_recipient(client: ConversationClient, fake: FakeService) -> None:
    for text in ("一", "二"):
        await client.push(ACCOUNT, text, recipient="u")
    await client.push(ACCOUNT, "三", recipient="v")
    async with client.attach(ACCOUNT, "i", ended_only=True) as session:
        await granted(session)
        offered = [await delivery(session) for _ in range(2)]
        assert [(one.recipient, text_of(one.ended_turn.reply)) for one in offered] == [("u", "一"), ("v", "三")]
        assert all(one.pushed and not one.address for one in offered)
        await session.delivered(offered[0])
        second = await delivery(session)
        assert (second.recipient, text_of(second.ended_turn.reply)) == ("u", "二")
