"""From where callbacks may come: WeCom's list, an operator's, proxies in front; on a real port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from adapter.backoff import Backoff
from adapter.callbacks.gate import Gate
from adapter.callbacks.listening import listening
from adapter.callbacks.sources import Sources, wecom_addresses
from adapter.crypto import Envelope
from adapter.metrics import Metrics
from adapter.rest.api import WeComApi
from adapter.rest.errors import WeComUnreachable
from adapter.settings import SourcesSettings
from adapter.wire import envelope_xml
from simulator.app import Simulator
from simulator.clock import ManualClock
from simulator.settings import ListenSettings
from simulator.settings import Settings as SimulatorSettings

DAY = 86400.0
SEAL = Envelope("SimulatorCallbackToken", "SimulatorEncodingAESKey0123456789ABCDEFGHIJ", "ww1")


class WeCom:
    """Says where it calls from; or is away."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.away = False
        self.asked = 0

    async def read(self) -> tuple[str, ...]:
        self.asked += 1
        if self.away:
            raise WeComUnreachable("getcallbackip: away", maybe_done=True)
        return self.addresses


class Door:
    """A port behind a gate."""

    def __init__(
        self, port: int, session: aiohttp.ClientSession, clock: ManualClock, registry: CollectorRegistry
    ) -> None:
        self.port = port
        self.clock = clock
        self._session = session
        self._registry = registry

    async def knock(self, *hops: str, header: str = "X-Forwarded-For") -> int:
        headers = [(header, hop) for hop in hops]
        sealed = SEAL.seal(b"<xml/>", str(int(self.clock.time())), "n")
        query = {"msg_signature": sealed.msg_signature, "timestamp": sealed.timestamp, "nonce": sealed.nonce}
        body = envelope_xml(sealed, "ww1", "1")
        async with self._session.post(
            f"http://127.0.0.1:{self.port}/callback", params=query, data=body, headers=headers
        ) as answer:
            return answer.status

    def value(self, name: str, **labels: str) -> float:
        return self._registry.get_sample_value(f"weconverse_adapter_{name}", labels) or 0.0


@asynccontextmanager
async def door(settings: SourcesSettings, wecom: WeCom | None = None) -> AsyncIterator[Door]:
    clock, registry = ManualClock(), CollectorRegistry()
    metrics = Metrics(registry)
    sources = Sources(
        settings,
        metrics,
        read=wecom.read if wecom else None,
        clock=clock.time,
        sleep=clock.sleep,
        randomness=lambda: 0.5,
    )
    gate = Gate(metrics, origins=sources, clock=clock.time)

    async def post(request: web.Request) -> web.Response:
        async def opened() -> web.Response:
            await gate.opened(request, SEAL)
            return web.Response()

        return await gate.answered(opened)

    application = web.Application()
    application.router.add_post("/callback", post)
    limits = {"keepalive_seconds": 5.0, "drain_seconds": 0.1, "max_connections": 10}
    async with listening(application, "127.0.0.1:0", **limits) as port, aiohttp.ClientSession() as session:
        running = asyncio.create_task(sources.run())
        try:
            yield Door(port.number, session, clock, registry)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def settings(mode: str = "enforce", **changes: object) -> SourcesSettings:
    return SourcesSettings(mode=mode, trusted_proxies=("127.0.0.1",), **changes)  # type: ignore[arg-type]  # by name


async def asked(door: Door, wecom: WeCom, after: float = 0.0) -> None:
    """Lets time pass, and waits until WeCom was asked and what it said is in use."""
    before = wecom.asked if after else 0
    async with asyncio.timeout(5):
        if after:
            await resting(door)
            door.clock.advance(after)
        while wecom.asked == before:
            await asyncio.sleep(0.001)
        await resting(door)


async def resting(door: Door) -> None:
    """Waits until the task that reads the list sleeps until the next time."""
    while not door.clock._sleepers:
        await asyncio.sleep(0.001)


async def test_only_wecom_and_our_own_list_come_in() -> None:
    wecom = WeCom("101.226.103.*", "140.207.54.74", "2402:4e00::/32")
    async with door(settings(allow=("10.0.0.0/8",)), wecom) as open_door:
        await asked(open_door, wecom)
        came = {
            hop: await open_door.knock(hop) for hop in ("101.226.103.7", "140.207.54.74", "2402:4e00::9", "10.9.9.9")
        }
        assert set(came.values()) == {200}
        refused = {hop: await open_door.knock(hop) for hop in ("101.226.104.7", "140.207.54.75", "2001:db8::1", "x")}
        assert set(refused.values()) == {403}
        assert open_door.value("sources_total", result="allowed") == 4
        assert open_door.value("sources_total", result="elsewhere") == 4
        assert open_door.value("callback_rejects_total", reason="source") == 4


async def test_what_a_stranger_writes_into_the_header_is_not_believed() -> None:
    wecom = WeCom("101.226.103.*")
    async with door(settings(), wecom) as open_door:
        await asked(open_door, wecom)
        assert await open_door.knock("101.226.103.7, 203.0.113.9") == 403
        assert await open_door.knock("101.226.103.7", "203.0.113.9") == 403
        assert await open_door.knock("203.0.113.9, 101.226.103.7") == 200
        assert await open_door.knock("for=101.226.103.7", header="Forwarded") == 403
    own = SourcesSettings(mode="enforce", wecom=False, allow=("101.226.103.7",))
    async with door(own) as open_door:  # without a proxy of ours, the peer is who it is
        assert await open_door.knock("101.226.103.7") == 403


async def test_the_standard_header_is_read_where_the_proxies_write_that() -> None:
    wecom = WeCom("101.226.103.*", "2402:4e00::/32")
    async with door(settings(header="forwarded"), wecom) as open_door:
        await asked(open_door, wecom)
        assert await open_door.knock("for=101.226.103.7;proto=https", header="Forwarded") == 200
        assert await open_door.knock('for="[2402:4e00::9]:4711"', header="Forwarded") == 200
        assert await open_door.knock("for=101.226.103.7, for=203.0.113.9", header="Forwarded") == 403
        assert await open_door.knock("for=_hidden", header="Forwarded") == 403
        assert await open_door.knock("101.226.103.7") == 403


async def test_log_only_refuses_nobody_and_says_whom_it_would(capsys: pytest.CaptureFixture[str]) -> None:
    wecom = WeCom("101.226.103.*")
    async with door(settings("log"), wecom) as open_door:
        await asked(open_door, wecom)
        assert [await open_door.knock("203.0.113.9") for _ in range(20)] == [200] * 20
        assert open_door.value("sources_total", result="elsewhere") == 20
        said = capsys.readouterr().out
        assert said.count("callback_from_elsewhere") == 1
        assert "203.0.113.9" in said


async def test_before_the_list_is_there_wecom_is_asked_to_come_again() -> None:
    wecom = WeCom("101.226.103.*")
    wecom.away = True
    async with door(settings(allow=("10.0.0.1",)), wecom) as open_door:
        await asked(open_door, wecom)
        assert await open_door.knock("101.226.103.7") == 503
        assert await open_door.knock("10.0.0.1") == 200
        assert open_door.value("source_list_age_seconds") == -1
        wecom.away = False
        await asked(open_door, wecom, after=3)
        assert await open_door.knock("101.226.103.7") == 200
        assert await open_door.knock("203.0.113.9") == 403


async def test_the_list_is_read_daily_and_the_last_one_kept_while_wecom_is_away() -> None:
    wecom = WeCom("101.226.103.*")
    async with door(settings(), wecom) as open_door:
        await asked(open_door, wecom)
        assert await open_door.knock("101.226.103.7") == 200
        wecom.addresses = ("182.254.11.*",)
        open_door.clock.advance(DAY - 1)
        assert await open_door.knock("101.226.103.7") == 200
        assert wecom.asked == 1
        await asked(open_door, wecom, after=1)
        assert await open_door.knock("182.254.11.7") == 200
        assert await open_door.knock("101.226.103.7") == 403
        wecom.away = True
        await asked(open_door, wecom, after=DAY)
        for hour in range(1, 4):
            await asked(open_door, wecom, after=3600)
            assert wecom.asked == 3 + hour
        assert await open_door.knock("182.254.11.7") == 200
        assert open_door.value("source_list_age_seconds") == DAY + 3 * 3600
        assert open_door.value("source_reads_total", result="failed") == 4
        wecom.away = False
        await asked(open_door, wecom, after=3600)
        assert open_door.value("source_list_age_seconds") == 0


@pytest.mark.parametrize("listed", [(), ("nonsense", "*")])
async def test_a_list_of_nothing_does_not_take_the_place_of_a_good_one(listed: tuple[str, ...]) -> None:
    wecom = WeCom("101.226.103.*")
    async with door(settings(), wecom) as open_door:
        await asked(open_door, wecom)
        wecom.addresses = listed
        await asked(open_door, wecom, after=DAY)
        assert await open_door.knock("101.226.103.7") == 200
        wecom.addresses = ("nonsense", "182.254.11.*")
        await asked(open_door, wecom, after=3600)
        assert await open_door.knock("182.254.11.7") == 200


async def test_a_restart_has_the_list_that_was_kept(tmp_path: Path) -> None:
    wecom, file = WeCom("101.226.103.*"), tmp_path / "addresses.json"
    async with door(settings(file=str(file)), wecom) as open_door:
        await asked(open_door, wecom)
        assert file.exists()
    wecom.away = True
    async with door(settings(file=str(file)), wecom) as open_door:
        await asyncio.wait_for(resting(open_door), 5)
        assert await open_door.knock("101.226.103.7") == 200
        assert await open_door.knock("203.0.113.9") == 403
        assert wecom.asked == 1  # it is young enough
        await asked(open_door, wecom, after=DAY)
    file.write_text("damaged", encoding="utf-8")
    async with door(settings(file=str(file)), wecom) as open_door:
        await asked(open_door, wecom)
        assert await open_door.knock("101.226.103.7") == 503


async def test_the_body_of_a_stranger_is_not_read() -> None:
    async with door(SourcesSettings(mode="enforce", wecom=False, allow=("10.0.0.1",))) as open_door:
        reader, writer = await asyncio.open_connection("127.0.0.1", open_door.port)
        writer.write(b"POST /callback HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 403")
        await asyncio.wait_for(reader.read(), 5)  # and the connection is closed
        writer.close()


async def test_the_list_is_what_the_interface_says() -> None:
    listen = ListenSettings(address="127.0.0.1:0")
    said = ("101.226.103.*", "140.207.54.74", "182.254.0.0/16")
    async with (
        Simulator(SimulatorSettings(listen=listen, callback_addresses=said)) as sim,
        aiohttp.ClientSession() as session,
    ):
        api = WeComApi(
            session,
            base=sim.rest_base,
            corp_id=sim.settings.corp_id,
            secret=sim.settings.apps[0].secret,
            metrics=Metrics(CollectorRegistry()),
            pause=lambda: Backoff(0.001, 0.001),
        )
        assert tuple(await wecom_addresses(api)) == said
        await api.aclose()
