"""Settings → live objects, in order, and closed in reverse. The only file that names backends."""

import asyncio
import gc
import re
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import structlog

from program import operations
from program.binding import is_loopback, refusal, split_address
from program.health import Health
from program.run import CannotStart
from program.settings import SettingsError
from server.cache.coalesce import SharedCalls
from server.cache.inprocess import InProcessReplyCache
from server.errors import StoreUnavailable
from server.filtering import Filtering, check_filter, check_lists, filtering
from server.llm.base import ProviderError
from server.llm.catalog import build_backends
from server.llm.endpoint import endpoint_of
from server.llm.output_cap import most_output
from server.memory.recall import RecentRounds
from server.ops import tracing
from server.ops.lag import watch
from server.ops.metrics import Metrics
from server.probe import probe
from server.reading import check_speech, media_reader
from server.routing.build import routing
from server.routing.counting import CountedHere
from server.routing.describe import describe
from server.routing.intents import Intents
from server.routing.limits import Limits
from server.routing.spending_record import SpendingFile
from server.serve import Port, credentials_of, serving
from server.settings import CallerSettings, GrpcSettings, Settings
from server.sharing import calibrate_file, check_semantic_cache, semantic_cache
from server.store.refusals import StoreRefused
from server.store.sqlite import SqliteTurnStore
from server.turn.assistants import Assistants
from server.turn.room import TurnRoom
from server.turn.stations import Stations

_log = structlog.get_logger()

_STORE: Final = "store"
_TURNS: Final = "turns"
_PORT: Final = "grpc"

_SWITCH_SECONDS: Final = 2e-5
"""How long a thread may keep the interpreter from another one that wants it.

The store's writer gives the interpreter away at every statement. While the event loop is
busy without a pause, each return would cost the default of 5 ms: with 64 callers, accepting
a turn took over 3 s at the median, against at most 41 ms at p99 with this, for some 6 % of
the throughput. Holds as long as the writer is a thread of this interpreter.
"""

_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}").fullmatch
_NODE_ID: Final = re.compile(r"[a-zA-Z0-9._-]{1,64}").fullmatch


# --- before anything is opened ------------------------------------------------------------


def plan(settings: Settings) -> Iterator[str]:
    """Checks what types cannot, and says what the server would do.

    Raises:
        SettingsError: for the first thing that is wrong.
    """
    _check_addresses(settings)
    _check_callers("grpc.callers", settings.grpc.callers)
    _check_callers("grpc.admins", settings.grpc.admins)
    _check_apart(settings.grpc)
    _check_node_id(settings.node_id)
    credentials_of(settings.grpc.tls)
    _check_rooms(settings)
    guard = "TLS" if settings.grpc.tls.certificate_file else "no TLS"
    callers = ", ".join(caller.name for caller in settings.grpc.callers) or "everybody who reaches the port"
    yield f"would serve gRPC on {settings.grpc.address} ({guard}), to {callers}"
    if settings.operations.address:
        yield f"would serve /metrics, /livez and /readyz on {settings.operations.address}"
    yield f"would keep turns in {settings.store.path}"
    try:
        yield from describe(settings)
        # For what only a backend finds wrong with its entry. It opens nothing before its first call.
        build_backends(settings.models, settings.node_id)
        for name, entry in settings.models.items():
            endpoint = endpoint_of(name, entry)
            yield f"would reach models/{name} by {endpoint.protocol}, {endpoint.address or 'in its script'}"
    except ValueError as error:
        raise _setting_error(error) from None


def rehearse(settings: Settings) -> None:
    """Reads the files that a start reads, and keeps nothing of them. With long word lists it takes as long as a start.

    Raises:
        SettingsError: for the first that a start would refuse.
    """
    try:
        check_semantic_cache(settings)
        check_lists(settings.filter)
    except ValueError as error:
        raise _setting_error(error) from None


def _check_addresses(settings: Settings) -> None:
    grpc, protected = settings.grpc, bool(settings.grpc.callers or settings.grpc.tls.client_ca_file)
    try:
        reason = refusal(
            grpc.address,
            # A certificate of the server alone hides what is said, and lets everybody in.
            protected=protected or bool(grpc.tls.certificate_file),
            allowed=grpc.insecure_listen,
            flag="grpc.insecure_listen",
        )
    except ValueError as error:
        raise SettingsError("grpc.address", str(error)) from None
    if reason is not None:
        raise SettingsError("grpc.address", reason)
    if settings.operations.address:
        try:
            split_address(settings.operations.address)
        except ValueError as error:
            raise SettingsError("operations.address", str(error)) from None


def _check_node_id(node_id: str) -> None:
    if node_id and _NODE_ID(node_id) is None:
        raise SettingsError("node_id", "must be 1 to 64 characters of [a-zA-Z0-9._-], or empty for a random one")


def _check_callers(section: str, callers: Sequence[CallerSettings]) -> None:
    names: set[str] = set()
    for index, caller in enumerate(callers):
        field = f"{section}[{index}]"
        if caller.name in names:
            raise SettingsError(f"{field}.name", f"{caller.name!r} is there twice; put both tokens into one entry")
        names.add(caller.name)
        for token in caller.token_sha256:
            if _SHA256(token) is None:
                raise SettingsError(
                    f"{field}.token_sha256",
                    "must be 64 hexadecimal digits; make them with: printf %s TOKEN | sha256sum",
                )


def _check_apart(grpc: GrpcSettings) -> None:
    """A caller's token that is an administrator's too would be taken for one or the other by chance."""
    callers = {token.lower() for caller in grpc.callers for token in caller.token_sha256}
    for index, admin in enumerate(grpc.admins):
        if not callers.isdisjoint(token.lower() for token in admin.token_sha256):
            raise SettingsError(
                f"grpc.admins[{index}].token_sha256",
                "is the token of a caller too; make one for administrators",
            )


def _check_rooms(settings: Settings) -> None:
    folder = Path(settings.store.path).resolve().parent
    if not folder.is_dir():
        raise SettingsError("store.path", f"is in the folder {folder}, which does not exist; make it")
    try:
        Assistants(settings.assistants, frozenset(settings.models) | frozenset(settings.splits))
        check_filter(settings)
        check_speech(settings)
    except ValueError as error:
        raise _setting_error(error) from None


def _setting_error(error: ValueError) -> SettingsError:
    """A ``ValueError`` of a room, whose message begins with the field, as a :class:`SettingsError`."""
    field, colon, rule = str(error).partition(": ")
    return SettingsError(field, rule) if colon else SettingsError("settings", field)


# --- while it runs --------------------------------------------------------------------------


class Running:
    """A server that serves."""

    def __init__(self, room: TurnRoom, port: Port, operations_port: int | None) -> None:
        self._room = room
        self._port = port
        self.port: Final = port.number
        self.operations_port: Final = operations_port

    async def drain(self) -> None:
        """Lets what runs finish, and closes the port."""
        await self._port.drain(self)

    def refuse_new(self) -> None:
        """Lets no more turns begin."""
        self._room.refuse_new()

    async def finish_turns(self, seconds: float) -> None:
        """Lets turns finish for up to ``seconds``; owed ones that do not finish stay owed."""
        await self._room.drain(seconds)

    def send_channels_away(self) -> None:
        """Ends the streams of attached channels; what they have open stays owed."""
        self._room.deliveries.close()


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """Opens everything, and gives it once calls are answered.

    Raises:
        SettingsError: for a setting that turns out wrong only now.
        CannotStart: if a file or a port is taken.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    if not settings.node_id:
        settings = msgspec.structs.replace(settings, node_id=secrets.token_hex(8))
    metrics, health = Metrics(), Health(_STORE, _TURNS, _PORT)
    async with AsyncExitStack() as stack:
        # First, so that /livez answers while the store brings its schema up to date.
        operations_port = await _operations(settings, health, metrics, stack)
        store = await stack.enter_async_context(_store(settings, metrics.committed))
        health.mark(_STORE, ready=True)
        filtered = await _filter(settings, store, metrics, stack)
        room = await _room(settings, store, filtered, metrics, stack)
        health.mark(_TURNS, ready=True)
        port = await stack.enter_async_context(
            serving(
                settings.grpc,
                turns=room.turns,
                deliveries=room.deliveries,
                pushes=room.pushes,
                turn_timeout=settings.turns.turn_timeout_seconds,
                ready=health,
                metrics=metrics,
                tracer=tracing.tracer(),
                lexicon=filtered.lexicon,
            )
        )
        await stack.enter_async_context(_watching(metrics, room))
        health.mark(_PORT, ready=True)
        # What is there now stays to the end: looking through it at each collection is a tenth of a short call.
        gc.collect()
        gc.freeze()
        _log.info(
            "serving", grpc=_shown(settings.grpc.address, port.number), loopback=is_loopback(settings.grpc.address)
        )
        try:
            yield Running(room, port, operations_port)
        finally:
            health.mark(_PORT, ready=False)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serves until ``stop`` is set, then drains and closes.

    Raises:
        SettingsError, CannotStart: as :func:`running`.
    """
    async with running(settings) as server:
        await stop.wait()
        _log.info("stopping")
        await server.drain()


async def replay_undeliverable(settings: Settings, account: str | None) -> str:
    """Makes undeliverable turns owed again, in the store of a server that is stopped.

    Raises:
        CannotStart: if the store is in use, or cannot be written.
    """
    try:
        async with _store(settings) as store:
            count = await store.replay_undeliverable(account)
    except StoreUnavailable as error:
        raise CannotStart(error.message) from error
    return f"{count} turns are owed again; they are offered when the server runs"


@asynccontextmanager
async def _store(
    settings: Settings, committed: Callable[[int, float], None] = lambda size, seconds: None
) -> AsyncIterator[SqliteTurnStore]:
    try:
        store = await SqliteTurnStore.open(
            settings.store.path, gather_seconds=settings.store.gather_milliseconds / 1000, committed=committed
        )
    except StoreRefused as error:
        raise CannotStart(str(error)) from error
    try:
        yield store
    finally:
        await store.aclose()


async def _operations(settings: Settings, health: Health, metrics: Metrics, stack: AsyncExitStack) -> int | None:
    if not settings.operations.address:
        return None
    try:
        return await stack.enter_async_context(
            operations.serving(settings.operations.address, health, metrics.registry)
        )
    except OSError as error:
        raise CannotStart(f"cannot listen on {settings.operations.address}: {error.strerror}") from error


async def _filter(settings: Settings, store: SqliteTurnStore, metrics: Metrics, stack: AsyncExitStack) -> Filtering:
    try:
        return await stack.enter_async_context(filtering(settings, store.audit, metrics))
    except ValueError as error:
        raise _setting_error(error) from error
    except StoreUnavailable as error:
        raise CannotStart(f"what administrators changed cannot be read: {error.message}") from error


async def _room(
    settings: Settings, store: SqliteTurnStore, filtered: Filtering, metrics: Metrics, stack: AsyncExitStack
) -> TurnRoom:
    try:
        endpoints = {name: endpoint_of(name, entry) for name, entry in settings.models.items()}
        provider = await stack.enter_async_context(
            routing(
                settings,
                build_backends(settings.models, settings.node_id),
                await stack.enter_async_context(_limits(settings, metrics)),
                metrics.models,
                takes={name: endpoint.takes for name, endpoint in endpoints.items()},
                most_output={name: most_output(endpoint) for name, endpoint in endpoints.items()},
            )
        )
        intents = Intents(settings.assistants, provider, metrics.models)
        stack.push_async_callback(intents.aclose)
        stations = Stations(
            store=store,
            memory=RecentRounds(store.recent_rounds, settings.memory.conversations),
            cache=InProcessReplyCache(settings.cache.entries, settings.cache.ttl_seconds),
            shared=SharedCalls(),
            screener=filtered.screener,
            moderation=filtered.moderation,
            guards=filtered.guards,
            intents=intents,
            provider=provider,
            observer=metrics,
            semantic=await stack.enter_async_context(semantic_cache(settings, metrics)),
            media=await stack.enter_async_context(media_reader(settings, metrics)),
        )
        room = TurnRoom(settings, stations)
    except ValueError as error:
        raise _setting_error(error) from error
    stack.push_async_callback(room.aclose)
    try:
        await room.open()
    except StoreUnavailable as error:
        raise CannotStart(f"the debts in {settings.store.path} cannot be read: {error.message}") from error
    return room


@asynccontextmanager
async def _limits(settings: Settings, metrics: Metrics) -> AsyncIterator[Limits]:
    spending = Path(f"{settings.store.path}.spending")
    limits = Limits(settings.models, settings.limits, CountedHere(SpendingFile(spending)), metrics.models)
    try:
        await limits.open()
    except OSError as error:
        raise CannotStart(f"what was spent today cannot be read from {spending}: {error.strerror}") from error
    try:
        yield limits
    finally:
        await limits.aclose()


@asynccontextmanager
async def _watching(metrics: Metrics, room: TurnRoom) -> AsyncIterator[None]:
    def sample() -> None:
        metrics.turns_running(room.register.running)
        metrics.inbox_depth(len(room.deliveries))
        metrics.inbox_oldest_age(room.deliveries.oldest_age())

    task = asyncio.create_task(watch(metrics.loop_was_late, (sample,)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _shown(address: str, port: int) -> str:
    """The address with the port that was taken, for one that said 0."""
    return f"{address.rpartition(':')[0]}:{port}"


async def probe_models(settings: Settings, model: str | None) -> str:
    """Asks every model, or one, a question.

    Raises:
        SettingsError: for an entry that cannot work.
        CannotStart: if one does not answer; with the lines of all of them.
    """
    try:
        lines, well = await probe(settings, model)
    except ValueError as error:
        raise _setting_error(error) from error
    if not well:
        raise CannotStart("\n".join(("not every model answers", *lines)))
    return "\n".join(lines)


async def calibrate_cache(settings: Settings, file: str | None) -> str:
    """Lists pairs of questions for labelling, or proves from labelled ones when an answer may be shared.

    Raises:
        CannotStart: if the file or the settings cannot be used, or the file proves too little.
    """
    if file is None:
        raise CannotStart("--calibrate-cache needs a FILE of questions or labelled pairs, as JSON Lines")
    try:
        return await calibrate_file(settings, Path(file), datetime.now(UTC))
    except ValueError as error:
        raise CannotStart(str(error)) from error
    except ProviderError as error:
        raise CannotStart(f"embeddings.{error.model} failed: {error}") from error
