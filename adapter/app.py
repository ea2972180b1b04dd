"""The composition root: settings in, live objects out, closed in reverse."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import grpc
import msgspec
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector

from adapter.access.admitting import directories
from adapter.account import Account, Shared
from adapter.application.account import applications, keyring
from adapter.bot.account import socket_bots
from adapter.bot.callback_account import bot_keyring, callback_bots
from adapter.callbacks.gate import Gate
from adapter.callbacks.listening import Port, listening
from adapter.callbacks.sources import Sources, sources_of
from adapter.kf.account import desks, planned_desks
from adapter.media.attachments import Fetching
from adapter.media.guarded_fetch import GuardedFetch
from adapter.media.room import Room
from adapter.metrics import Metrics
from adapter.rereading import Rereading, watched
from adapter.rest.api import WeComApi
from adapter.robot.account import robots
from adapter.settings import MediaSettings, ServerSettings, Settings, accounts, assistants, check, rules_of
from program.binding import refusal
from program.health import Health
from program.operations import serving
from program.run import CannotStart
from program.settings import SettingsError
from weconverse import ConversationClient, ResourceNotFound, WeConverseError

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
        keyring(name, app)
        yield f"application {name}: agent {app.agent_id}, callbacks at {settings.listen.address}/wecom/app/{name}"
    for name in settings.bots:
        yield f"bot {name}: long connection to {settings.wecom.socket_base}"
    for name, called in settings.callback_bots.items():
        bot_keyring(name, called)
        yield f"bot {name}: callbacks at {settings.listen.address}/wecom/bot/{name}"
    yield from planned_desks(settings)
    for _, name, account in accounts(settings):
        yield from _said_of(settings, name, account)
    if settings.sources.mode != "off":
        yield f"callbacks from elsewhere: {'refused' if settings.sources.mode == 'enforce' else 'counted and named'}"
    for name, robot in settings.robots.items():
        yield f"robot {name}: {robot.messages_per_minute} messages a minute"
    _client(settings.server)  # connects to nothing, but reads the files of certificates
    yield f"service: {settings.server.target}"


def _said_of(settings: Settings, name: str, account: msgspec.Struct) -> Iterator[str]:
    """Who may use an account, and who answers them."""
    rules, answering = rules_of(account), list(assistants(account))
    if rules:
        through = settings.directory.app or name
        asked = any(rule.departments or rule.tags for rule in rules)
        reading = f", with the directory as {through} sees it" if asked else ""
        others = "" if rules[-1].everyone else "; everybody else is refused"
        yield f"access to {name}: {len(rules)} {'rule' if len(rules) == 1 else 'rules'}{reading}{others}"
    if answering:
        yield f"assistants of {name}: {', '.join(answering)}"


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
        apis = _apis(stack, settings, session, metrics)
        sources = sources_of(settings.sources, apis, metrics, health)
        rereading = Rereading(watched(settings), metrics, seconds=settings.secrets.reread_seconds)
        shared = Shared(
            settings,
            client,
            session,
            metrics,
            _gate(settings, metrics, sources),
            stack,
            settings.delivery.instance or f"{socket.gethostname()[:48]}-{os.getpid()}",
            settings.privacy.pseudonym_key.reveal().encode(),
            apis,
            directories(stack, settings, apis, metrics),
            rereading,
            await _media(stack, settings.media, metrics),
        )
        served, served_routes, called_desks = desks(shared)
        apps, app_routes = applications(shared, called_desks)
        fetched, fetched_routes = callback_bots(shared)
        routes = [*app_routes, *fetched_routes, *served_routes]
        doors = [*apps, *socket_bots(shared), *fetched, *served, *robots(shared)]
        port = await _callbacks(stack, settings, routes)
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(_look(client, settings, health), name="look at the service")
            keeping = [group.create_task(rereading.run(), name="reread secrets")]
            if sources is not None:
                keeping.append(group.create_task(sources.run(), name="addresses of WeCom"))
            at_work = [(account, group.create_task(_run(account))) for account in doors]
            health.mark(_LISTENING, ready=True)
            try:
                yield Running(port.number if port else 0, operations_port)
            finally:
                health.mark(_LISTENING, ready=False)
                for task in (looking, *keeping):
                    task.cancel()
                # Callbacks and deliveries end beside each other: all of it has one time to end in.
                if port is not None:
                    group.create_task(port.aclose())
                for account, task in at_work:
                    group.create_task(_drain(account, task, settings.listen.drain_seconds))


async def _media(stack: AsyncExitStack, media: MediaSettings, metrics: Metrics) -> Fetching:
    guarded = GuardedFetch(
        allowed=[ip_network(text) for text in media.private_networks],
        hosts=media.hosts,
        insecure_http=media.insecure_http,
    )
    await stack.enter_async_context(guarded)
    room = Room(fetches=media.max_fetches, total_bytes=media.memory_bytes)
    return Fetching(room, guarded, metrics, max_bytes=media.max_bytes, fetch_seconds=media.fetch_seconds)


async def _run(account: Account) -> None:
    await account.run()


async def _drain(account: Account, at_work: "asyncio.Task[None]", seconds: float) -> None:
    await account.drain(seconds)
    # What has no more than a connection to close is given a moment; one that hangs in opening none.
    await asyncio.wait((at_work,), timeout=_CLOSE_SECONDS)
    at_work.cancel()


async def _look(client: ConversationClient, settings: Settings, health: Health) -> None:
    """Asks the service now and then whether it is there, and whether it has our assistants."""
    wanted = sorted({assistant for _, _, account in accounts(settings) for assistant in assistants(account)})
    asked_before = False
    while True:
        for assistant in wanted:
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


def _apis(
    stack: AsyncExitStack, settings: Settings, session: aiohttp.ClientSession, metrics: Metrics
) -> dict[str, WeComApi]:
    wecom = settings.wecom
    apis = {
        name: WeComApi(
            session,
            base=wecom.api_base,
            corp_id=app.corp_id,
            secret=app.secret,
            metrics=metrics,
            request_seconds=wecom.request_seconds,
        )
        for name, app in settings.apps.items()
    }
    for api in apis.values():
        stack.push_async_callback(api.aclose)
    return apis


def _gate(settings: Settings, metrics: Metrics, sources: Sources | None) -> Gate:
    listen = settings.listen
    return Gate(
        metrics,
        max_body_bytes=listen.max_body_bytes,
        body_seconds=listen.body_seconds,
        window_seconds=listen.timestamp_window_seconds,
        origins=sources,
    )


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
        rule, _, in_code = str(error).removeprefix("token: ").partition("; ")
        raise SettingsError("server.token", f"{rule}; set server.ca_file" if in_code else rule) from None


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


async def _callbacks(stack: AsyncExitStack, settings: Settings, routes: list[web.RouteDef]) -> Port | None:
    if not routes:  # nothing is to be called
        return None
    listen = settings.listen
    application = web.Application(client_max_size=listen.max_body_bytes)
    application.add_routes(routes)
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
