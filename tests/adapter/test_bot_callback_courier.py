"""What no poll takes: the one use of ``response_url``, through refusals, lost answers and restarts."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from adapter.backoff import Backoff
from adapter.bot import fetched
from adapter.bot.callback_courier import BotCallbackCourier, FetchTiming, Progress, Settling, read_progress
from adapter.metrics import Metrics
from adapter.outcome import Delivered, Outcome, Retry, Undeliverable, Waiting
from adapter.rest.secret_address import SecretAddress
from adapter.translate import Address
from weconverse import ConversationClient, Delivery, Turn
from weconverse.testing import FakeService
from weconverse.v1.conversation_pb2 import Content, Part

TURN = f"conversations/wecom.helper.{'0f' * 16}/turns/1"
TIMING = FetchTiming(close=330.0, end=360.0, grace=10.0)
HANG_UP = -99


class Peer:
    """WeCom behind ``response_url``: gives the codes that a test wants, then 0; ``HANG_UP`` cuts the connection."""

    def __init__(self, courier: BotCallbackCourier, registry: CollectorRegistry, url: str) -> None:
        self.courier = courier
        self.registry = registry
        self.url = url
        self.codes: list[int] = []
        self.bodies: list[dict[str, object]] = []
        self.recorded: list[Progress] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.bodies.append(msgspec.json.decode(await request.read()))
        code = self.codes.pop(0) if self.codes else 0
        if code == HANG_UP and request.transport is not None:
            request.transport.abort()
        return web.json_response({"errcode": code})

    async def deliver(
        self, turn: Turn, *, progress: bytes = b"", attempt: int = 1, response_url: str | None = None, req_id: str = "x"
    ) -> Outcome:
        url = f"{self.url}?code=s3cret" if response_url is None else response_url
        to = Address(door="bot_callback", user="lina", response_url=url, req_id=req_id)
        delivery = Delivery(
            turn=turn.name,
            address=msgspec.json.encode(to),
            attempt=attempt,
            progress=progress,
            ended_turn=turn,
        )

        async def record(data: bytes) -> None:
            # Nothing was sent before it was written down that it would be.
            assert not self.bodies
            self.recorded.append(read_progress(data))

        return await self.courier.deliver(delivery, record)

    def suspects(self) -> float | None:
        return self.registry.get_sample_value("weconverse_adapter_resend_suspect_total", {"door": "bot_callback"})


def turn_of(*, seconds: float, reply: str = "答案", finish: "Turn.FinishReason.ValueType" = Turn.STOP) -> Turn:
    """A turn that took so many seconds and has just ended."""
    turn = Turn(name=TURN, state=Turn.SUCCEEDED, finish_reason=finish, delivery_state=Turn.OWED)
    turn.reply.CopyFrom(Content(parts=[Part(text=reply)]))
    turn.end_time.FromNanoseconds(time.time_ns())
    turn.create_time.FromNanoseconds(time.time_ns() - int(seconds * 1e9))
    return turn


@asynccontextmanager
async def peer(**changes: object) -> AsyncIterator[Peer]:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    application = web.Application()
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    async with aiohttp.ClientSession() as session, FakeService({}) as fake, ConversationClient(fake.target) as client:
        courier = BotCallbackCourier(
            client,
            SecretAddress(session, pause=lambda: Backoff(0.001, 0.001)),
            metrics,
            timing=TIMING,
            allowed_host="127.0.0.1",
            **changes,  # type: ignore[arg-type]  # clock and sleep
        )
        made = Peer(courier, registry, "")
        application.router.add_post("/response", made.answer)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/response"
        try:
            yield made
        finally:
            await runner.cleanup()


async def test_a_late_answer_is_recorded_then_sent() -> None:
    async with peer() as wecom:
        assert await wecom.deliver(turn_of(seconds=400)) == Delivered()
        assert wecom.recorded == [Progress(posting=True)]
        assert wecom.bodies == [{"msgtype": "markdown", "markdown": {"content": "答案", "feedback": {"id": TURN}}}]


async def test_a_choice_is_answered_at_once_for_it_has_no_bubble() -> None:
    async with peer() as wecom:
        assert await wecom.deliver(turn_of(seconds=1), req_id="") == Delivered()
        assert len(wecom.bodies) == 1


async def test_after_a_crash_a_used_address_means_delivered() -> None:
    async with peer() as wecom:
        wecom.codes = [40058]
        before = msgspec.json.encode(Progress(posting=True))
        assert await wecom.deliver(turn_of(seconds=400), progress=before, attempt=2) == Delivered()
        assert (len(wecom.bodies), wecom.suspects()) == (1, 1.0)


async def test_an_address_that_is_refused_at_its_first_use_is_undeliverable() -> None:
    async with peer() as wecom:
        wecom.codes = [40058]
        outcome = await wecom.deliver(turn_of(seconds=400))
        assert isinstance(outcome, Undeliverable)
        assert "s3cret" not in outcome.detail
        assert "40058" in outcome.detail


@pytest.mark.parametrize(("code", "posting"), [(HANG_UP, True), (45009, False)])
async def test_what_may_have_arrived_is_remembered_and_what_did_not_is_not(code: int, posting: bool) -> None:
    async with peer() as wecom:
        wecom.codes = [code]
        outcome = await wecom.deliver(turn_of(seconds=400))
        assert isinstance(outcome, Retry if posting else Waiting)
        assert read_progress(outcome.progress) == Progress(posting=posting, tries=1)
        assert "s3cret" not in outcome.detail


async def test_a_busy_platform_is_asked_again_at_once() -> None:
    async with peer() as wecom:
        wecom.codes = [-1, 6000]
        assert await wecom.deliver(turn_of(seconds=400)) == Delivered()
        assert len(wecom.bodies) == 3


@pytest.mark.parametrize(
    "response_url", ["", "http://10.0.0.1/x?code=s3cret", "ftp://127.0.0.1/s3cret", "https://", "http://[s3cret"]
)
async def test_only_addresses_of_wecom_are_used(response_url: str) -> None:
    async with peer() as wecom:
        outcome = await wecom.deliver(turn_of(seconds=400), response_url=response_url)
        assert isinstance(outcome, Undeliverable)
        assert "s3cret" not in outcome.detail
        assert not wecom.recorded


async def test_pushes_have_no_way() -> None:
    async with peer() as wecom:
        delivery = Delivery(turn=TURN, pushed=True, recipient="lina", ended_turn=turn_of(seconds=1))

        async def record(_data: bytes) -> None:
            raise AssertionError

        outcome = await wecom.courier.deliver(delivery, record)
        assert isinstance(outcome, Undeliverable)
        assert "robot" in outcome.detail


async def test_a_merged_message_needs_nothing() -> None:
    async with peer() as wecom:
        assert await wecom.deliver(turn_of(seconds=1, finish=Turn.MERGED)) == Delivered()
        assert not wecom.bodies


async def test_a_poll_here_ends_the_wait() -> None:
    async with peer() as wecom:
        assert not wecom.courier.fetched(TURN)
        turn = turn_of(seconds=1)
        waiting = asyncio.create_task(wecom.deliver(turn))
        while not wecom.courier.fetched(TURN):
            await asyncio.sleep(0)
        assert await waiting == Delivered(turn.create_time.ToNanoseconds() / 1e9 + TIMING.settled_until)
        assert not wecom.bodies


async def test_the_rest_follows_a_poll_and_a_restart_sends_only_the_rest() -> None:
    long = "\n\n".join(["头" * 6000, "尾" * 1000])
    async with peer() as wecom:
        wecom.codes = [HANG_UP]
        waiting = asyncio.create_task(wecom.deliver(turn_of(seconds=1, reply=long)))
        while not wecom.courier.fetched(TURN):
            await asyncio.sleep(0)
        outcome = await waiting
        assert isinstance(outcome, Retry)
        assert read_progress(outcome.progress) == Progress(fetched=True, posting=True, tries=1)
        wecom.bodies.clear()
        again = await wecom.deliver(turn_of(seconds=1, reply=long), progress=outcome.progress, attempt=2)
        assert again == Delivered()
        assert [body["markdown"]["content"][0] for body in wecom.bodies] == ["尾"]  # type: ignore[index]  # JSON


async def test_what_a_bubble_gave_up_on_is_sent_whole() -> None:
    # The rest was not sent in time: near the end of the window the bubble says that all of it comes separately.
    turn = turn_of(seconds=1, reply="头" * 6000 + "\n\n" + "尾" * 1000)
    for time_of, seconds in ((turn.create_time, 352), (turn.end_time, 351)):
        time_of.FromNanoseconds(time.time_ns() - seconds * 10**9)
    async with peer() as wecom:
        state = msgspec.json.encode(Progress(fetched=True))
        assert await wecom.deliver(turn, progress=state, attempt=2) == Delivered()
        assert [body["markdown"]["content"][0] for body in wecom.bodies] == ["头"]  # type: ignore[index]  # JSON


async def test_a_service_that_hangs_holds_up_no_poll() -> None:
    async def report(_turn: str, _until: float) -> bool:
        return await asyncio.Event().wait()

    async with FakeService({}) as fake, ConversationClient(fake.target) as client, peer() as wecom:
        settling = Settling(client, wecom.courier, report, seconds=0.05)
        assert not await settling(TURN, fetched.shown(turn_of(seconds=1), group=False), 0.0)


async def test_nobody_sends_what_another_instance_settled() -> None:
    now = time.time()

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    async with FakeService({"hi": "好"}) as fake, ConversationClient(fake.target) as client:
        courier_metrics = Metrics(CollectorRegistry())
        async with aiohttp.ClientSession() as session:
            courier = BotCallbackCourier(
                client,
                SecretAddress(session),
                courier_metrics,
                timing=TIMING,
                allowed_host="127.0.0.1",
                clock=lambda: now,
                sleep=sleep,
            )
            account = "channels/wecom/accounts/helper"
            await client.submit("c", "hi", request_id="1", account=account)
            await fake.until(lambda: fake.turns()[0].state == Turn.SUCCEEDED)
            turn = fake.turns()[0]
            to = msgspec.json.encode(Address(door="bot_callback", user="lina", req_id="x", response_url="https://a/"))

            async def record(_data: bytes) -> None:
                raise AssertionError("the address was about to be used")

            async with client.attach(account, "elsewhere") as elsewhere:

                async def report(name: str, until: float) -> bool:
                    await elsewhere.delivered(name, expire_time=until)
                    return True

                settling, shown = Settling(client, courier, report, seconds=0.2), fetched.shown(turn, group=False)
                assert not await settling(turn.name, shown, time.time() - 1)  # it was on its way for too long
                assert await settling(turn.name, shown, time.time() + 60)
            outcome = await courier.deliver(Delivery(turn=turn.name, address=to, ended_turn=turn), record)
            assert outcome == Delivered()
