"""What a poll is answered with over the time of a bubble, whichever instance and however often it is asked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from adapter.bot import fetched
from adapter.bot.callback import BotCallbackAccount, BotCallbackDoor
from adapter.bot.callback_courier import FetchTiming
from adapter.callbacks.gate import Gate
from adapter.callbacks.keyring import Keyring
from adapter.crypto import Envelope
from adapter.metrics import Metrics
from adapter.translate import Incoming, Rated
from program.secret import Secret
from weconverse import CallerUnknown, ConversationClient, Turn
from weconverse.testing import FakeService
from weconverse.v1.conversation_pb2 import GetTurnRequest, Media, Part

ACCOUNT = "channels/wecom/accounts/helper"
CONVERSATION = f"conversations/wecom.helper.{'0f' * 16}"
TOKEN, AES_KEY = "SimulatorBotToken", "SimulatorBotAESKey0123456789ABCDEFGHIJKLMNO"
TIMING = FetchTiming(close=330.0, end=360.0, grace=10.0)
BEFORE, HELD, GIVEN_UP, BEHIND = 349.0, 352.0, 356.0, 366.0
"""Ages of a bubble at which what is owed is settled; not any more, nor given up; given up; and which no poll has."""


class Asked:
    """A door on a clock of its own, and WeCom that polls it."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.settled: list[str] = []
        self.may_settle = True
        self.now = 0.0
        self.wecom: TestClient[web.Request, web.Application]

    async def settle(self, turn: str, _shown: fetched.Shown, until: float) -> bool:
        assert until == self.turn.create_time.seconds + TIMING.settled_until
        self.settled.append(turn)
        return self.may_settle

    async def poll(self, age: float) -> tuple[bool, str]:
        """Whether the bubble is finished, and what it says."""
        self.now = self.turn.create_time.seconds + age
        body = _body(fetched.stream_id(self.turn.name, self.turn.create_time.seconds))
        sealed = _envelope().seal(msgspec.json.encode(body), str(_now()), "n")
        query = {"msg_signature": sealed.msg_signature, "timestamp": sealed.timestamp, "nonce": sealed.nonce}
        async with self.wecom.post("/wecom/bot/helper", params=query, json={"encrypt": sealed.encrypted}) as answer:
            said = await answer.json(content_type=None)
        plain = _envelope().open(said["msgsignature"], str(said["timestamp"]), said["nonce"], said["encrypt"])
        stream = msgspec.json.decode(plain)["stream"]
        return stream["finish"], stream["content"]


def _body(stream: str) -> dict[str, Any]:
    return {"msgtype": "stream", "stream": {"id": stream}, "chattype": "single", "from": {"userid": "lina"}}


def _envelope() -> Envelope:
    return Envelope(TOKEN, AES_KEY, "")


def _now() -> int:
    return 1_767_225_600


async def _nothing(_anything: object, _seconds: float = 0.0) -> None:
    raise AssertionError("nobody wrote or rated")


async def _no_greeting(_user: str) -> str:
    raise AssertionError("nobody came in")


class _NoMedia:
    async def fill(self, incoming: Incoming, seconds: float) -> Incoming:
        raise AssertionError(incoming, seconds)


@asynccontextmanager
async def asked(*, delivered: bool = False) -> AsyncIterator[tuple[Asked, FakeService]]:
    """A turn about a picture, answered at once; owed, or delivered."""
    metrics = Metrics(CollectorRegistry())
    async with FakeService(lambda _: "答案") as fake, ConversationClient(fake.target) as client:
        picture = Media(mime_type="image/png", inline_data=bytes(1 << 20))
        turn = await client.submit(CONVERSATION, [Part(media=picture)], request_id="1", account=ACCOUNT)
        await fake.until(lambda: fake.turns()[0].state == Turn.SUCCEEDED)
        if delivered:
            async with client.attach(ACCOUNT, "elsewhere") as session:
                await session.delivered(turn.name)
                await fake.until(lambda: fake.turns()[0].delivery_state == Turn.DELIVERED)
        scene = Asked(turn)

        async def rate(rated: Rated) -> None:
            raise AssertionError(rated)

        account = BotCallbackAccount(
            Keyring(Secret(TOKEN), Secret(AES_KEY), ""),
            bot_id="",
            name="",
            submit=_nothing,
            media=_NoMedia(),
            greeting=_no_greeting,
            rate=rate,
            settle=scene.settle,
            timing=TIMING,
        )
        gate = Gate(metrics, clock=_now)
        door = BotCallbackDoor({"helper": account}, client, gate, metrics, clock=lambda: scene.now)
        application = web.Application()
        application.add_routes(door.routes())
        async with TestClient(TestServer(application)) as scene.wecom:
            yield scene, fake


async def test_the_end_is_settled_before_it_is_shown_and_shown_again_if_it_was_lost() -> None:
    async with asked() as (scene, _):
        scene.may_settle = False
        assert await scene.poll(1.0) == (False, "答案")
        scene.may_settle = True
        assert await scene.poll(2.0) == (True, "答案")
        assert len(scene.settled) == 2


@pytest.mark.parametrize("age", [2.0, BEFORE, HELD, GIVEN_UP])
async def test_an_end_whose_way_was_cut_is_given_again_for_as_long_as_wecom_asks(age: float) -> None:
    async with asked(delivered=True) as (scene, _):
        assert [await scene.poll(age) for _ in range(2)] == [(True, "答案")] * 2
        assert not scene.settled


@pytest.mark.parametrize(
    ("age", "answer", "settles"),
    [
        (BEFORE, (True, "答案"), True),
        # A report from before may arrive until here: nothing is settled, and nothing is given up.
        (HELD, (False, "答案"), False),
        (GIVEN_UP, (True, fetched.SENT_SEPARATELY), False),
        (BEHIND, (True, fetched.SENT_SEPARATELY), False),
    ],
)
async def test_near_the_end_of_the_window_what_is_owed_goes_another_way(
    age: float, answer: tuple[bool, str], settles: bool
) -> None:
    async with asked() as (scene, _):
        assert await scene.poll(age) == answer
        assert bool(scene.settled) == settles


async def test_what_was_delivered_behind_the_window_is_not_shown_twice() -> None:
    async with asked(delivered=True) as (scene, _):
        assert await scene.poll(BEHIND) == (True, fetched.SENT_SEPARATELY)


async def test_a_service_that_is_away_ends_no_bubble_and_no_polls() -> None:
    async with asked() as (scene, fake):
        fake.fail_next(CallerUnknown("who are you"), method="GetTurn")
        assert await scene.poll(1.0) == (False, fetched.NOT_SURE)
        assert await scene.poll(2.0) == (True, "答案")


async def test_a_service_that_stays_away_leaves_a_word_before_wecom_ends_the_bubble() -> None:
    async with asked() as (scene, fake):
        fake.fail_next(CallerUnknown("who are you"), method="GetTurn", times=2)
        assert await scene.poll(HELD) == (False, fetched.NOT_SURE)
        assert await scene.poll(GIVEN_UP) == (True, fetched.STILL_AWAY)


async def test_polls_leave_the_message_at_the_service() -> None:
    async with asked() as (scene, fake):
        await scene.poll(1.0)
        assert [one.omit_input for one in fake.requests("GetTurn", GetTurnRequest)] == [True]
