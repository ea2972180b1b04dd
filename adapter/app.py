"""The composition root: settings in, live objects out, closed in reverse."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import grpc
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector

from adapter.api import WeComApi
from adapter.app_callback import AppAccount, AppDoor
from adapter.app_courier import AppCourier
from adapter.backoff import Backoff
from adapter.bot_connection import connecting
from adapter.bot_courier import BotCourier
from adapter.bot_inbox import BotInbox
from adapter.bot_line import BotLine
from adapter.bot_showing import BotTiming
from adapter.bot_socket import BotDoor, telling
from adapter.crypto import Envelope
from adapter.delivery import Lease
from adapter.listening import Port, listening
from adapter.metrics import Metrics
from adapter.recently_sent import MemberPace, RecentlySent
from adapter.settings import AppSettings, BotSettings, ServerSettings, Settings, check
from adapter.submission import Submission, account_name
from program.binding import refusal
from program.health import Health
from program.operations import serving
from program.run import CannotStart
from program.settings import SettingsError
from weconverse import ConversationClient, ResourceNotFound, TurnOptions, WeConverseError

log = structlog.get_logger()

_LISTENING: Final = "callbacks"
_SERVICE: Final = "service"
_FIRST_LOOK: Final = 0.2
_NEXT_LOOK: Final = 10.0
_ASK_SECONDS: Final = 3.0
_CLOSE_SECONDS: Final = 1.2
"""For ending a lease in order, which tells the service of the last reports (``ChannelSession.aclose``: 1 s)."""


class Running(NamedTuple):
    """What a started adapter tells: its ports; 0 where it does not listen."""

    callbacks_port: int
    operations_port: int


class _Door(NamedTuple):
    """An account at work."""

    run: Callable[[], Awaitable[None]]
    drain: Callable[[float], Awaitable[object]]


def plan(settings: Settings) -> Iterator[str]:
    """Checks everything that can be checked without a network, and says what would be done.

    Raises:
        SettingsError: for the first thing that is wrong.
    """
    check(settings)
    for field, address in (("listen", settings.listen.address), ("operations", settings.operations.address)):
        if address:
            _check_address(f"{field}.address", address, allowed=settings.listen.insecure_listen)
    for name, app in settings.apps.items():
        _envelope(name, app)
        yield f"application {name}: agent {app.agent_id}, callbacks at {settings.listen.address}/wecom/app/{name}"
    for name in settings.bots:
        yield f"bot {name}: long connection to {settings.wecom.socket_base}"
    yield f"service: {settings.server.target}"


def _check_address(field: str, address: str, *, allowed: bool) -> None:
    try:
        reason = refusal(address, protected=False, allowed=allowed, flag="listen.insecure_listen")
    except ValueError as error:
        raise SettingsError(field, str(error)) from None
    if reason is not None:
        raise SettingsError(field, reason)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serves until ``stop`` is set; then finishes what is under way, within ``listen.drain_seconds``.

    Raises:
        CannotStart: a port is taken.
        SettingsError: a file named in the settings cannot be read.
    """
    async with running(settings) as started:
        log.info("adapter_ready", callbacks=started.callbacks_port, operations=started.operations_port)
        await stop.wait()
        log.info("adapter_stopping")


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """A started adapter; leaving it stops it as :func:`serve` promises."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    metrics = Metrics(registry)
    health = Health(_LISTENING, _SERVICE)
    async with AsyncExitStack() as stack:
        operations_port = await _operations(stack, settings, health, registry)
        client = await stack.enter_async_context(_client(settings.server))
        session = await stack.enter_async_context(_http(settings))
        parts = _Parts(settings, client, session, metrics)
        doors = [
            *(parts.application(stack, name, app) for name, app in settings.apps.items()),
            *(parts.bot(name, bot) for name, bot in settings.bots.items()),
        ]
        port = await _callbacks(stack, settings, parts.web())
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(_look(client, settings, health), name="look at the service")
            running_doors = [(door, group.create_task(_run(door))) for door in doors]
            health.mark(_LISTENING, ready=True)
            try:
                yield Running(port.number if port else 0, operations_port)
            finally:
                health.mark(_LISTENING, ready=False)
                looking.cancel()
                # Callbacks and deliveries end beside each other: all of it has one time to end in.
                if port is not None:
                    group.create_task(port.aclose())
                for door, at_work in running_doors:
                    group.create_task(_drain(door, at_work, settings.listen.drain_seconds))


async def _run(door: _Door) -> None:
    await door.run()


async def _drain(door: _Door, at_work: "asyncio.Task[None]", seconds: float) -> None:
    await door.drain(seconds)
    # What has no more than a connection to close is given a moment; one that hangs in opening none.
    await asyncio.wait((at_work,), timeout=_CLOSE_SECONDS)
    at_work.cancel()


class _Parts:
    """Makes the objects of each account from what all of them share."""

    def __init__(
        self, settings: Settings, client: ConversationClient, session: aiohttp.ClientSession, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._client = client
        self._session = session
        self._metrics = metrics
        self._instance = settings.delivery.instance or f"{socket.gethostname()[:48]}-{os.getpid()}"
        self._pseudonym_key = settings.privacy.pseudonym_key.reveal().encode()
        self._callback_accounts: dict[str, AppAccount] = {}

    def application(self, stack: AsyncExitStack, name: str, app: AppSettings) -> _Door:
        wecom, delivery = self._settings.wecom, self._settings.delivery
        api = WeComApi(
            self._session,
            base=wecom.api_base,
            corp_id=app.corp_id,
            secret=app.secret,
            metrics=self._metrics,
            request_seconds=wecom.request_seconds,
        )
        stack.push_async_callback(api.aclose)
        courier = AppCourier(
            api,
            self._metrics,
            agent_id=app.agent_id,
            reply_type=app.reply_type,
            duplicate_check_seconds=wecom.duplicate_check_seconds,
            sent=RecentlySent(wecom.duplicate_check_seconds),
            pace=MemberPace(wecom.member_messages_per_minute, wecom.member_messages_per_hour),
            longest_pause=delivery.retry_seconds,
        )
        lease = Lease(
            self._client,
            courier,
            self._metrics,
            account=account_name(name),
            instance=self._instance,
            door="app",
            max_open=delivery.max_open,
            ended_only=True,
            backoff=Backoff(0.2, delivery.reconnect_seconds),
        )
        submission = Submission(self._client, name, app.assistant)
        self._callback_accounts[name] = AppAccount(_envelope(name, app), submission)
        return _Door(lease.run, lease.drain)

    def bot(self, name: str, bot: BotSettings) -> _Door:
        delivery = self._settings.delivery
        line = BotLine(
            lambda: connecting(
                self._session,
                self._settings.wecom.socket_base,
                self._metrics,
                connect_seconds=bot.subscribe_seconds,
                ack_seconds=bot.ack_seconds,
                heartbeat_seconds=bot.heartbeat_seconds,
            ),
            self._metrics,
            account=name,
            bot_id=bot.bot_id,
            secret=bot.secret,
            subscribe_seconds=bot.subscribe_seconds,
        )
        timing = BotTiming(refresh=bot.refresh_seconds, thinking=bot.thinking_seconds, stream=bot.stream_seconds)
        lease = Lease(
            self._client,
            BotCourier(self._client, line, self._metrics, timing=timing, longest_pause=delivery.retry_seconds),
            self._metrics,
            account=account_name(name),
            instance=self._instance,
            door="bot",
            max_open=delivery.max_open,
            exclusive=True,
            backoff=Backoff(0.2, delivery.reconnect_seconds),
        )
        inbox = BotInbox(
            Submission(self._client, name, bot.assistant, _paced(bot.refresh_seconds)),
            telling(line),
            self._metrics,
            account=name,
            max_waiting=bot.max_waiting,
            window_seconds=bot.submit_window_seconds,
        )
        door = BotDoor(
            line,
            lease,
            inbox,
            self._metrics,
            account=name,
            name=bot.name,
            greeting=_greeting(self._client, bot.assistant),
            kicked_pause=bot.kicked_pause_seconds,
            pseudonym_key=self._pseudonym_key,
        )
        return _Door(door.run, door.drain)

    def web(self) -> web.Application | None:
        """The application behind the callback port; ``None`` when nothing is to be called."""
        if not self._callback_accounts:
            return None
        listen = self._settings.listen
        door = AppDoor(
            self._callback_accounts,
            self._metrics,
            max_body_bytes=listen.max_body_bytes,
            body_seconds=listen.body_seconds,
            window_seconds=listen.timestamp_window_seconds,
            submit_seconds=listen.submit_seconds,
            pseudonym_key=self._pseudonym_key,
        )
        application = web.Application(client_max_size=listen.max_body_bytes)
        application.add_routes(door.routes())
        return application


def _envelope(name: str, app: AppSettings) -> Envelope:
    try:
        return Envelope(app.token.reveal(), app.encoding_aes_key.reveal(), app.corp_id)
    except ValueError as error:
        field, _, rule = str(error).partition(": ")
        raise SettingsError(f"apps.{name}.{field}", rule) from None


def _paced(refresh_seconds: float) -> TurnOptions:
    """Asks for deltas half as far apart as the refreshes that show them: more would only cost."""
    options = TurnOptions()
    options.delta_interval.FromNanoseconds(int(min(2.0, refresh_seconds / 2) * 1e9))
    return options


def _greeting(client: ConversationClient, assistant: str) -> Callable[[], Awaitable[str]]:
    async def greeting() -> str:
        return (await client.get_assistant(assistant, timeout=_ASK_SECONDS)).greeting

    return greeting


async def _look(client: ConversationClient, settings: Settings, health: Health) -> None:
    """Asks the service now and then whether it is there, and whether it has our assistants."""
    assistants = {app.assistant for app in settings.apps.values()} | {bot.assistant for bot in settings.bots.values()}
    asked_before = False
    while True:
        for assistant in sorted(assistants):
            try:
                await client.get_assistant(assistant, timeout=_ASK_SECONDS)
            except ResourceNotFound:
                log.warning("assistant_missing", assistant=assistant, remedy="add it to the service's settings")
                there = True
            except WeConverseError as error:
                if health.parts[_SERVICE] or not asked_before:
                    log.warning("service_not_reached", why=error.reason or error.code.name)
                there = False
            else:
                there = True
            health.mark(_SERVICE, ready=there)
            asked_before = True
        await asyncio.sleep(_NEXT_LOOK if health.parts[_SERVICE] else _FIRST_LOOK)


def _client(server: ServerSettings) -> ConversationClient:
    credentials = None
    if server.ca_file:
        credentials = grpc.ssl_channel_credentials(
            root_certificates=_file("server.ca_file", server.ca_file),
            private_key=_file("server.key_file", server.key_file),
            certificate_chain=_file("server.certificate_file", server.certificate_file),
        )
    try:
        return ConversationClient(server.target, token=server.token.reveal() or None, credentials=credentials)
    except ValueError as error:
        raise SettingsError("server.token", str(error)) from None


def _file(field: str, path: str) -> bytes | None:
    try:
        return Path(path).read_bytes() if path else None
    except OSError as error:
        raise SettingsError(field, f"names {path}, which cannot be read: {error.strerror}") from None


def _http(settings: Settings) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=settings.wecom.max_connections),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(
            total=settings.wecom.request_seconds, sock_connect=settings.wecom.connect_seconds
        ),
    )


async def _operations(stack: AsyncExitStack, settings: Settings, health: Health, registry: CollectorRegistry) -> int:
    if not settings.operations.address:
        return 0
    try:
        return await stack.enter_async_context(serving(settings.operations.address, health, registry))
    except OSError as error:
        raise CannotStart(f"operations.address {settings.operations.address}: {error.strerror}") from None


async def _callbacks(stack: AsyncExitStack, settings: Settings, application: web.Application | None) -> Port | None:
    if application is None:
        return None
    listen = settings.listen
    port = listening(
        application,
        listen.address,
        max_connections=listen.max_connections,
        keepalive_seconds=listen.keepalive_seconds,
        drain_seconds=listen.drain_seconds,
    )
    try:
        return await stack.enter_async_context(port)
    except OSError as error:
        raise CannotStart(f"listen.address {listen.address}: {error.strerror}") from None
