"""The platform, an application and a bot of its own to talk to it: none of the project's adapter."""

import asyncio
import datetime
import ipaddress
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from simulator.app import Simulator
from simulator.clock import Clock
from simulator.faults import Faults
from simulator.rules import Rules
from simulator.settings import ListenSettings, Settings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def settings_with(rules: Rules | None = None, **changes: Any) -> Settings:
    return Settings(listen=ListenSettings(address="127.0.0.1:0"), rules=rules or Rules(), **changes)


StartSimulator = Callable[..., AbstractAsyncContextManager[Simulator]]


@pytest.fixture
def simulator() -> StartSimulator:
    """Starts a simulator on a free port: ``async with simulator(Rules(...), clock=...) as sim``."""

    @asynccontextmanager
    async def start(
        rules: Rules | None = None, *, faults: Faults | None = None, clock: Clock | None = None, **changes: Any
    ) -> AsyncIterator[Simulator]:
        async with Simulator(settings_with(rules, **changes), faults=faults, clock=clock) as sim:
            yield sim

    return start


@dataclass
class Callback:
    query: dict[str, str]
    body: bytes


@dataclass
class Application:
    """A self-built application's web server, which answers as the test says."""

    url: str = ""
    received: list[Callback] = field(default_factory=list)
    answers: list[Handler] = field(default_factory=list)
    """One a request, in order; afterwards an empty 200."""
    checks: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    app = Application()

    async def post(request: web.Request) -> web.StreamResponse:
        app.received.append(Callback(dict(request.query), await request.read()))
        return await app.answers.pop(0)(request) if app.answers else web.Response()

    async def get(request: web.Request) -> web.StreamResponse:
        app.checks.append(dict(request.query))
        return await app.answers.pop(0)(request) if app.answers else web.Response()

    server = web.Application()
    server.router.add_post("/callback", post)
    server.router.add_get("/callback", get)
    runner = web.AppRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    app.url = f"http://127.0.0.1:{runner.addresses[0][1]}/callback"
    yield app
    await runner.cleanup()


class Api:
    """A REST caller: token and requests, nothing remembered."""

    def __init__(self, sim: Simulator, session: aiohttp.ClientSession) -> None:
        self._sim = sim
        self._session = session

    async def token(self, secret: str | None = None, corp: str | None = None) -> dict[str, Any]:
        query = {
            "corpid": corp or self._sim.settings.corp_id,
            "corpsecret": secret or self._sim.settings.apps[0].secret.reveal(),
        }
        async with self._session.get(f"{self._sim.rest_base}/cgi-bin/gettoken", params=query) as answer:
            assert answer.status == 200
            found: dict[str, Any] = await answer.json()
            return found

    async def post(self, path: str, body: Any, token: str | None = None) -> dict[str, Any]:
        if token is None:
            token = (await self.token())["access_token"]
        raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        url = f"{self._sim.rest_base}/cgi-bin/{path}"
        async with self._session.post(url, params={"access_token": token}, data=raw) as answer:
            assert answer.status == 200
            found: dict[str, Any] = await answer.json()
            return found

    async def text(self, person: str, content: str, **more: Any) -> dict[str, Any]:
        return await self.post(
            "message/send",
            {"touser": person, "msgtype": "text", "agentid": 1000002, "text": {"content": content}, **more},
        )


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield session


@pytest.fixture
def api(session: aiohttp.ClientSession) -> Callable[[Simulator], Api]:
    return lambda sim: Api(sim, session)


class BotClient:
    """A bare client of the long connection: frames out, frames in."""

    def __init__(self, sim: Simulator, ws: aiohttp.ClientWebSocketResponse) -> None:
        self._sim = sim
        self.ws = ws
        self._count = 0

    async def send(self, cmd: str, body: dict[str, Any] | None = None, req_id: str | None = None) -> str:
        self._count += 1
        req_id = req_id or f"{cmd}_{self._count}"
        frame: dict[str, Any] = {"cmd": cmd, "headers": {"req_id": req_id}}
        if body is not None:
            frame["body"] = body
        await self.ws.send_str(json.dumps(frame, ensure_ascii=False))
        return req_id

    async def receive(self) -> dict[str, Any]:
        message = await self.ws.receive(timeout=5)
        assert message.type == aiohttp.WSMsgType.TEXT, message
        found: dict[str, Any] = json.loads(message.data, strict=False)
        return found

    async def call(self, cmd: str, body: dict[str, Any] | None = None, req_id: str | None = None) -> dict[str, Any]:
        req_id = await self.send(cmd, body, req_id)
        ack = await self.receive()
        assert "cmd" not in ack
        assert ack["headers"]["req_id"] == req_id
        return ack

    async def subscribe(self, secret: str | None = None) -> dict[str, Any]:
        bot = self._sim.settings.bots[0]
        return await self.call("aibot_subscribe", {"bot_id": bot.id, "secret": secret or bot.secret.reveal()})

    async def stream(self, req_id: str, stream_id: str, content: str, finish: bool = False) -> int:
        body = {"msgtype": "stream", "stream": {"id": stream_id, "finish": finish, "content": content}}
        code: int = (await self.call("aibot_respond_msg", body, req_id))["errcode"]
        return code

    async def push(self, chat_id: str, content: str, **more: Any) -> int:
        body = {"chatid": chat_id, "msgtype": "markdown", "markdown": {"content": content}, **more}
        code: int = (await self.call("aibot_send_msg", body))["errcode"]
        return code

    async def ended(self) -> bool:
        """Reads to the end; whether the platform closed the connection."""
        while True:
            message = await self.ws.receive(timeout=5)
            if message.type != aiohttp.WSMsgType.TEXT:
                return message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)


Connect = Callable[[Simulator], Awaitable[BotClient]]


@pytest.fixture
async def connect(session: aiohttp.ClientSession) -> AsyncIterator[Connect]:
    """Opens a long connection: ``client = await connect(sim)``, not yet subscribed."""
    opened: list[aiohttp.ClientWebSocketResponse] = []

    async def open_one(sim: Simulator) -> BotClient:
        ws = await session.ws_connect(sim.socket_base)
        opened.append(ws)
        return BotClient(sim, ws)

    yield open_one
    await asyncio.gather(*(ws.close() for ws in opened))


@pytest.fixture
async def subscribed(connect: Connect) -> Connect:
    async def open_one(sim: Simulator) -> BotClient:
        client = await connect(sim)
        assert (await client.subscribe())["errcode"] == 0
        return client

    return open_one


@dataclass(frozen=True)
class Certificate:
    certificate_file: str
    key_file: str
    pem: str


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for 127.0.0.1 that is its own authority."""
    folder = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulator")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = signed.public_bytes(serialization.Encoding.PEM)
    (folder / "certificate.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Certificate(str(folder / "certificate.pem"), str(folder / "key.pem"), pem.decode())
