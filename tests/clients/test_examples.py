"""The examples run against the contract."""

import asyncio
import importlib.util
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from weconverse import ConversationClient, ConverseRequest, InputTooLong, Overloaded, StoreUnavailable, Turn
from weconverse.testing import FakeService

EXAMPLES = Path(__file__).parents[2] / "clients/examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# --- internal_service ---------------------------------------------------------------------


async def test_tickets_are_summed_up() -> None:
    service = load("internal_service")
    tickets = [json.dumps({"id": f"T-{number}", "text": f"第{number}张"}) for number in range(20)]
    async with FakeService(lambda request: request.conversation) as fake, ConversationClient(fake.target) as client:
        fake.fail_next(InputTooLong("too long"))
        refused = await service.summarise(client, "T-98", "x")
        found = [summary async for summary in service.summarise_all(client, [*tickets, "\n"])]
        fake.fail_next(Overloaded("full", retry_after=100))
        later = await service.summarise(client, "T-99", "x")
        again = [summary async for summary in service.summarise_all(client, tickets[1:])]
        asked = fake.requests("Converse", ConverseRequest)
    assert [summary.id for summary in found] == [f"T-{number}" for number in range(20)]
    assert {summary.outcome for summary in found} == {"done"}
    assert (refused.outcome, refused.text) == ("refused", "INPUT_TOO_LONG: too long")
    assert again == found[1:]
    assert (later.outcome, later.text) == ("later", "OVERLOADED")
    assert len(fake.turns()) == 20
    assert {request.request_id for request in asked} == {"summary"}


async def test_the_internal_service_as_a_program() -> None:
    async with FakeService(lambda request: "概括") as fake:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(EXAMPLES / "internal_service.py"), "--target", fake.target),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate(json.dumps({"id": "T-1", "text": "坏了"}).encode())
    assert (process.returncode, json.loads(out)) == (0, {"id": "T-1", "outcome": "done", "text": "概括"})


# --- alert_service ------------------------------------------------------------------------


async def test_alerts_are_told_once_and_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service, account = load("alert_service"), "channels/wecom/accounts/ops-robot"
    chart = tmp_path / "cpu.png"
    chart.write_bytes(b"png")
    lines = [
        json.dumps({"id": "A-1", "level": "critical", "text": "磁盘满了", "chart": str(chart)}),
        "\n",
        json.dumps({"id": "A-2", "text": "恢复"}),
    ]
    async with FakeService() as fake:
        assert await service.tell_all(fake.target, account, lines) == 0
        assert await service.tell_all(fake.target, account, lines) == 0
        fake.fail_next(Overloaded("full", retry_after=100))
        fake.fail_next(InputTooLong("too long"))
        third = json.dumps({"id": "A-3", "text": "x"})
        assert await service.tell_all(fake.target, account, [third, third]) == 1
        first, second = fake.turns()
    assert first.reply.parts[0].text == "**🔴 严重** A-1\n磁盘满了"
    assert first.reply.parts[1].media.display_name == "cpu.png"
    assert second.reply.parts[0].text == "**🔵 通知** A-2\n恢复"
    assert capsys.readouterr().out.split()[-4:] == ["A-3", "later", "A-3", "refused"]


# --- webhook_channel ----------------------------------------------------------------------


class Callback:
    """Where replies go: records them, and answers with the statuses it is told to."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Any]] = []
        self.statuses: list[int] = []
        self.news = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((request.headers["Idempotency-Key"], await request.json()))
        self.news.set()
        return web.Response(status=self.statuses.pop(0) if self.statuses else 204)


@pytest.fixture
async def callback() -> Callback:
    return Callback()


@pytest.fixture
async def callback_url(callback: Callback) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/replies", callback.take)
    async with TestServer(app) as server:
        yield str(server.make_url("/replies"))


async def post(server: BaseTestServer, body: object) -> int:
    async with aiohttp.ClientSession() as http, http.post(server.make_url("/messages"), json=body) as answer:
        return answer.status


MESSAGE = {"id": "1", "thread": "张三", "text": "你好"}


async def test_a_message_comes_back_as_a_reply(callback: Callback, callback_url: str) -> None:
    example = load("webhook_channel")
    async with (
        FakeService({"你好": "你好!"}) as fake,
        TestServer(example.make_app(fake.target, callback_url)) as server,
    ):
        assert await post(server, MESSAGE) == 202
        assert await post(server, MESSAGE) == 202  # A redelivery is the same message.
        await fake.until(lambda: fake.turns()[0].delivery_state == Turn.DELIVERED)
        [turn] = fake.turns()
        assert callback.got == [(turn.name, {"thread": "张三", "text": "你好!"})]
        assert "张三" not in turn.name


async def test_what_the_callback_answers_is_reported(callback: Callback, callback_url: str) -> None:
    example = load("webhook_channel")
    callback.statuses = [410]
    async with FakeService() as fake, TestServer(example.make_app(fake.target, callback_url)) as server:
        await post(server, MESSAGE)
        await fake.until(lambda: fake.turns()[0].delivery_state == Turn.UNDELIVERABLE)
        callback.statuses = [500]
        await post(server, {**MESSAGE, "id": "2"})
        await fake.until(lambda: len(fake.results) == 2)
        assert (fake.results[1].detail, fake.results[1].retry_delay.seconds) == ("HTTP 500", 2)


async def test_a_callback_that_cannot_be_reached_is_tried_again(unused_tcp_port: int) -> None:
    example = load("webhook_channel")
    nowhere = f"http://127.0.0.1:{unused_tcp_port}/"
    async with FakeService() as fake, TestServer(example.make_app(fake.target, nowhere)) as server:
        await post(server, MESSAGE)
        await fake.until(lambda: len(fake.results) == 1)
        assert fake.results[0].detail == "ClientConnectorError"


async def test_a_message_that_cannot_be_owed_is_not_taken(callback_url: str) -> None:
    example = load("webhook_channel")
    async with FakeService() as fake, TestServer(example.make_app(fake.target, callback_url)) as server:
        assert await post(server, {"id": "1"}) == 400
        assert await post(server, [1]) == 400
        fake.fail_next(StoreUnavailable("disk"), method="SubmitTurn", times=3)
        assert await post(server, MESSAGE) == 503
        assert fake.turns() == []


async def test_a_lost_lease_is_taken_again(callback: Callback, callback_url: str) -> None:
    example = load("webhook_channel")
    async with FakeService() as fake:
        fake.fail_next(Overloaded("full"), method="Attach")
        async with TestServer(example.make_app(fake.target, callback_url)) as server:
            await post(server, MESSAGE)
            async with asyncio.timeout(5):
                await callback.news.wait()
