"""The HTTP interface of WeCom, against a peer that says what each test wants."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import msgspec
import pytest
import structlog
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from adapter.application.messages import Receiver, encode, markdown, text, to_user
from adapter.backoff import Backoff
from adapter.metrics import Metrics
from adapter.recently_sent import MemberPace, RecentlySent
from adapter.rest.access_token import RETRY_SECONDS, AccessToken, FreshToken
from adapter.rest.api import Sent, WeComApi
from adapter.rest.errors import (
    ContentRefused,
    CredentialRefused,
    ReceiverRefused,
    RequestRefused,
    SlowDown,
    WeComError,
    WeComUnreachable,
)
from program.secret import Secret


class Platform:
    """Hands out numbered tokens and takes messages; scripted answers come first."""

    def __init__(self) -> None:
        self.token_answers: deque[dict[str, object]] = deque()
        self.send_answers: deque[object] = deque()
        self.token_calls = 0
        self.bodies: list[bytes] = []
        self.tokens: list[str] = []
        self.valid = ""
        self.life = 7200
        self.token_gate: asyncio.Event | None = None

    async def gettoken(self, request: web.Request) -> web.Response:
        self.token_calls += 1
        if self.token_gate is not None:
            await self.token_gate.wait()
        if self.token_answers:
            return web.json_response(self.token_answers.popleft())
        self.valid = f"secret-token-{self.token_calls}"
        return web.json_response({"errcode": 0, "access_token": self.valid, "expires_in": self.life})

    async def send(self, request: web.Request) -> web.StreamResponse:
        self.tokens.append(request.query["access_token"])
        self.bodies.append(await request.read())
        answer = self.send_answers.popleft() if self.send_answers else None
        if answer == "hang up":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if isinstance(answer, int):
            return web.Response(status=answer)
        if isinstance(answer, dict):
            return web.json_response(answer)
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="application/json")
        if self.tokens[-1] != self.valid:
            return web.json_response({"errcode": 40014, "errmsg": "invalid access_token"})
        return web.json_response({"errcode": 0, "errmsg": "ok", "msgid": f"m{len(self.bodies)}", "invaliduser": ""})


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Api:
    def __init__(self, api: WeComApi, platform: Platform, clock: Clock, registry: CollectorRegistry) -> None:
        self.api = api
        self.platform = platform
        self.clock = clock
        self.registry = registry

    async def send(self, content: str = "你好", *, check: bool = True) -> str:
        body = encode(text(content), to_user("zhangwei"), 1000002, duplicate_check=check, interval=600)
        return (await self.api.send("message/send", body, repeatable=check)).msgid


@asynccontextmanager
async def connected(request_seconds: float = 5.0, secret: Secret | None = None) -> AsyncIterator[Api]:
    platform, clock, registry = Platform(), Clock(), CollectorRegistry()
    application = web.Application()
    application.add_routes(
        [web.get("/cgi-bin/gettoken", platform.gettoken), web.post("/cgi-bin/message/send", platform.send)]
    )
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        api = WeComApi(
            session,
            base=f"http://127.0.0.1:{runner.addresses[0][1]}",
            corp_id="ww1",
            secret=secret or Secret("the-secret-of-the-app"),
            metrics=Metrics(registry),
            request_seconds=request_seconds,
            clock=clock,
            pause=lambda: Backoff(0.001, 0.001),
            wrong_secret_pause=Backoff(120.0, 1800.0, randomness=lambda: 0.0),
        )
        try:
            yield Api(api, platform, clock, registry)
        finally:
            await api.aclose()
            await runner.cleanup()


async def test_fifty_sends_at_once_ask_for_one_token() -> None:
    async with connected() as wecom:
        assert len(await asyncio.gather(*(wecom.send() for _ in range(50)))) == 50
        assert wecom.platform.token_calls == 1


async def test_fifty_sends_at_once_share_a_wrong_secret_and_do_not_ask_again() -> None:
    async with connected() as wecom:
        wecom.platform.token_answers.extend([{"errcode": 40001, "errmsg": "invalid credential"}] * 100)
        outcomes = await asyncio.gather(*(wecom.send() for _ in range(50)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {CredentialRefused}
        with pytest.raises(CredentialRefused) as refused:
            await wecom.send()
        assert wecom.platform.token_calls == 1
        # Coming back is free while WeCom is not asked, and finds a secret that was replaced.
        assert refused.value.retry_after == RETRY_SECONDS


async def test_a_wrong_secret_is_tried_again_after_minutes_that_double() -> None:
    async with connected() as wecom:
        wecom.platform.token_answers.extend([{"errcode": 40001}] * 2)
        calls = []
        for second in range(0, 700, 10):
            wecom.clock.now = 1000.0 + second
            with suppress(CredentialRefused):
                await wecom.send()
            if wecom.platform.token_calls > len(calls):
                calls.append(second)
        assert calls == [0, 120, 360]
        assert wecom.platform.bodies


@pytest.mark.parametrize("text", [b"a\x01b\tc", b"\\ud83d", b"\xff\xfe", "\ud83d".encode("utf-8", "surrogatepass")])
async def test_answers_hold_what_people_write(text: bytes) -> None:
    async with connected() as wecom:
        wecom.platform.send_answers.append(b'{"errcode":0,"msgid":"' + text + b'"}')
        assert await wecom.send()


@pytest.mark.parametrize(
    "raw", [b"", b"\xff", b"[]", b'{"errcode":"0"}', b'{"errcode":NaN}', b'{"a":' + b"[" * 100_000]
)
async def test_an_answer_that_is_none_says_nothing(raw: bytes) -> None:
    async with connected() as wecom:
        wecom.platform.send_answers.extend([raw] * 4)
        with pytest.raises(WeComUnreachable):
            await wecom.send(check=False)


async def test_a_busy_platform_says_nothing_about_the_secret() -> None:
    async with connected() as wecom:
        wecom.platform.token_answers.extend([{"errcode": -1}] * 4)
        with pytest.raises(RequestRefused) as busy:
            await wecom.send()
        assert not isinstance(busy.value, CredentialRefused)
        await wecom.send()


async def test_a_secret_that_was_replaced_is_tried_at_once() -> None:
    secret = Secret("the-old-secret")
    async with connected(secret=secret) as wecom:
        wecom.platform.token_answers.extend([{"errcode": 40001}] * 2)
        for _ in range(3):
            with pytest.raises(CredentialRefused):
                await wecom.send()
        assert wecom.platform.token_calls == 1
        secret.replace("a-wrong-one")
        for _ in range(3):
            with pytest.raises(CredentialRefused):
                await wecom.send()
        assert wecom.platform.token_calls == 2
        secret.replace("the-right-one")
        assert await wecom.send()
        assert wecom.platform.token_calls == 3


@pytest.mark.parametrize("code", [40014, 42001, 40001, 41001])
async def test_a_dead_token_is_renewed_once_and_the_send_repeated_once(code: int) -> None:
    async with connected() as wecom:
        await wecom.send("first")
        wecom.platform.send_answers.append({"errcode": code, "errmsg": "expired"})
        await wecom.send("second")
        assert wecom.platform.token_calls == 2
        assert wecom.platform.tokens == ["secret-token-1", "secret-token-1", "secret-token-2"]
        assert wecom.platform.bodies[1] == wecom.platform.bodies[2]


async def test_a_fresh_token_that_is_refused_too_is_not_a_loop() -> None:
    async with connected() as wecom:
        wecom.platform.send_answers.extend([{"errcode": 40014}] * 1000)
        for _ in range(20):
            with pytest.raises(CredentialRefused):
                await wecom.send()
        assert wecom.platform.token_calls <= 5


async def test_who_is_refused_with_every_token_hears_for_which_call() -> None:
    async def fetch() -> FreshToken:
        return FreshToken("t", 7200.0)

    token = AccessToken(fetch)
    with pytest.raises(CredentialRefused, match="kf/sync_msg"):
        for _ in range(4):
            await token.after_refusal(await token.current(), "kf/sync_msg")


async def test_fifty_sends_with_a_dead_token_renew_it_once() -> None:
    async with connected() as wecom:
        await wecom.send()
        wecom.platform.valid = "somebody else has it"
        await asyncio.gather(*(wecom.send(str(number)) for number in range(50)))
        assert wecom.platform.token_calls == 2


async def test_a_token_is_renewed_early_without_anybody_waiting() -> None:
    async with connected() as wecom:
        await wecom.send()
        wecom.clock.now += 0.79 * 7200
        await wecom.send()
        assert wecom.platform.token_calls == 1
        wecom.clock.now += 0.02 * 7200
        wecom.platform.token_gate = asyncio.Event()
        await wecom.send()  # while the renewal hangs
        wecom.platform.token_gate.set()
        while wecom.platform.valid == "secret-token-1":
            await asyncio.sleep(0)
        await wecom.send()
        assert wecom.platform.token_calls == 2


async def test_an_expired_token_is_not_used() -> None:
    async with connected() as wecom:
        await wecom.send()
        wecom.clock.now += 7201
        await wecom.send()
        assert wecom.platform.tokens == ["secret-token-1", "secret-token-2"]


async def test_who_gives_up_waiting_does_not_take_the_token_from_the_others() -> None:
    async with connected() as wecom:
        wecom.platform.token_gate = asyncio.Event()
        impatient, patient = asyncio.create_task(wecom.send()), asyncio.create_task(wecom.send())
        while wecom.platform.token_calls == 0:
            await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.gather(impatient, return_exceptions=True)
        wecom.platform.token_gate.set()
        assert await patient == "m1"
        assert wecom.platform.token_calls == 1


@pytest.mark.parametrize("trouble", [{"errcode": -1}, {"errcode": 6000}, 502, "hang up"])
async def test_what_passes_is_tried_again_with_the_same_bytes(trouble: object) -> None:
    async with connected() as wecom:
        wecom.platform.send_answers.extend([trouble] * 3)
        assert await wecom.send() == "m4"
        assert len(set(wecom.platform.bodies)) == 1
        wecom.platform.send_answers.extend([trouble] * 4)
        with pytest.raises(WeComError):
            await wecom.send()
        assert len(wecom.platform.bodies) == 8


@pytest.mark.parametrize("trouble", [502, "hang up"])
async def test_without_the_duplicate_check_a_lost_answer_is_not_repeated(trouble: object) -> None:
    async with connected() as wecom:
        wecom.platform.send_answers.append(trouble)
        with pytest.raises(WeComUnreachable) as lost:
            await wecom.send(check=False)
        assert lost.value.maybe_done
        assert len(wecom.platform.bodies) == 1


async def test_silence_is_given_up_in_time() -> None:
    async with connected(request_seconds=0.05) as wecom:
        wecom.platform.token_gate = asyncio.Event()
        with pytest.raises(WeComUnreachable):
            await wecom.send()


@pytest.mark.parametrize(("code", "pause"), [(45009, 60.0), (45033, 2.0)])
async def test_a_frequency_limit_holds_the_other_sends_back_too(code: int, pause: float) -> None:
    async with connected() as wecom:
        wecom.platform.send_answers.append({"errcode": code})
        for _ in range(2):
            with pytest.raises(SlowDown) as slow:
                await wecom.send()
            assert slow.value.retry_after == pytest.approx(pause)
        assert len(wecom.platform.bodies) == 1
        wecom.clock.now += pause + 0.1
        await wecom.send()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"errcode": 81013}, ReceiverRefused),
        ({"errcode": 60111}, ReceiverRefused),
        ({"errcode": 86008}, ReceiverRefused),
        ({"errcode": 45002}, ContentRefused),
        ({"errcode": 42045}, ContentRefused),
        ({"errcode": 40007}, ContentRefused),
        ({"errcode": 85002}, ContentRefused),
        ({"errcode": 60020}, CredentialRefused),
        ({"errcode": 301002}, CredentialRefused),
        ({"errcode": 99999}, RequestRefused),
    ],
)
async def test_refusals_have_types(answer: dict[str, object], kind: type[WeComError]) -> None:
    async with connected() as wecom:
        wecom.platform.send_answers.append(answer)
        with pytest.raises(kind) as refused:
            await wecom.send()
        assert type(refused.value) is kind
        assert len(wecom.platform.bodies) == 1


@pytest.mark.parametrize("field", ["invaliduser", "invalidparty", "invalidtag", "unlicenseduser"])
async def test_receivers_that_were_missed_are_told_of(field: str) -> None:
    async with connected() as wecom:
        wecom.platform.send_answers.append({"errcode": 0, "msgid": "x", field: "somebody"})
        assert await wecom.api.send("message/send", b"{}", repeatable=True) == Sent("x", missed=True)
        wecom.platform.send_answers.append({"errcode": 0, "msgid": "y", field: ""})
        assert await wecom.api.send("message/send", b"{}", repeatable=True) == Sent("y", missed=False)


async def test_neither_token_nor_secret_nor_text_is_logged_or_raised(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with connected(request_seconds=0.2) as wecom:
        lines: list[str] = []
        with structlog.testing.capture_logs() as entries:
            for trouble in ("hang up", 500, {"errcode": 40014}, {"errcode": 45009}, {"errcode": 81013}):
                wecom.platform.send_answers.extend([trouble] * 4)
                try:
                    await wecom.send("机密内容", check=False)
                except WeComError as error:
                    lines += [str(error), repr(error), repr(error.__cause__)]
                wecom.platform.send_answers.clear()
                wecom.clock.now += 3600
            wecom.platform.token_answers.append({"errcode": 40001})
            wecom.clock.now += 7200
            with pytest.raises(CredentialRefused):
                await wecom.send()
        seen = "\n".join([*lines, caplog.text, *map(repr, entries)])
        for hidden in ("secret-token", "the-secret-of-the-app", "机密内容"):
            assert hidden not in seen


@given(content=st.text(), user=st.text(min_size=1), check=st.booleans())
def test_the_same_part_is_the_same_bytes(content: str, user: str, check: bool) -> None:
    content, user = (words.encode("utf-8", "replace").decode() for words in (content, user))
    for make, kind in ((text, "text"), (markdown, "markdown")):
        first = encode(make(content), to_user(user), 7, duplicate_check=check, interval=600)
        assert first == encode(make(content), Receiver({"touser": user}), 7, duplicate_check=check, interval=600)
        # In this order: see the promise of encode.
        assert list(msgspec.json.decode(first).items()) == [
            ("msgtype", kind),
            ("touser", user),
            ("agentid", 7),
            (kind, {"content": content}),
            ("enable_duplicate_check", int(check)),
            ("duplicate_check_interval", 600),
        ]


def test_chinese_travels_unescaped() -> None:
    assert "你好".encode() in encode(text("你好"), to_user("u"), 1, duplicate_check=True, interval=600)


def test_equal_bodies_of_other_turns_are_remembered_for_the_interval() -> None:
    clock = Clock()
    sent = RecentlySent(600, clock)
    assert not sent.belongs_to_another("u", b"ok", "turn/1")
    sent.confirmed("u", b"ok", "turn/1")
    assert not sent.belongs_to_another("U", b"ok", "turn/1")
    assert sent.belongs_to_another("U", b"ok", "turn/2")
    assert not sent.belongs_to_another("v", b"ok", "turn/2")
    clock.now += 601
    assert not sent.belongs_to_another("u", b"ok", "turn/2")


@given(st.lists(st.floats(min_value=0, max_value=30), min_size=1, max_size=200))
def test_no_minute_has_more_messages_than_allowed(gaps: list[float]) -> None:
    clock = Clock()
    pace = MemberPace(5, 20, clock)
    times = []
    for gap in gaps:
        clock.now += gap
        clock.now += pace.wait("u")
        assert pace.wait("u") <= 1e-6
        pace.sent("u")
        times.append(clock.now)
    for span, most in ((59.99, 5), (3599.9, 20)):
        assert all(sum(start <= time < start + span for time in times) <= most for start in times)
