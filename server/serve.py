"""The gRPC port: what stands around the handlers, and how it opens and drains."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol, cast

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry.trace import Tracer

from program.binding import is_loopback
from program.health import Health
from program.run import CannotStart
from program.settings import SettingsError
from server.filter.base import LexiconAdmin
from server.ops.metrics import Metrics
from server.rpc.admin import AdminServicer
from server.rpc.channel import ChannelServicer
from server.rpc.conversation import ConversationServicer
from server.rpc.health import HealthServicer
from server.rpc.interceptors.budget import BudgetGate
from server.rpc.interceptors.faults import Faults
from server.rpc.interceptors.identity import Identity
from server.rpc.interceptors.journal import Journal
from server.rpc.interceptors.meter import Meter
from server.rpc.interceptors.trace import Trace
from server.rpc.interceptors.weight import WeightGate
from server.rpc.interceptors.wrap import Around, Registrar
from server.rpc.options import server_options
from server.settings import GrpcSettings, TlsSettings
from server.turn.base import DeliveryService, PushService, TurnService
from weconverse.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    channel_pb2,
    channel_pb2_grpc,
    conversation_pb2,
    conversation_pb2_grpc,
)

_log = structlog.get_logger()

SERVICES: Final = (
    conversation_pb2.DESCRIPTOR.services_by_name["ConversationService"].full_name,
    channel_pb2.DESCRIPTOR.services_by_name["ChannelService"].full_name,
)

ADMIN_SERVICE: Final = admin_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name
"""Only where there are administrators."""

_HEALTH: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

_LAST_WORDS_SECONDS: Final = 2.0
"""What calls get to end by themselves once no turn is left: a status has to travel."""


def concerns(settings: GrpcSettings, turn_timeout: float, metrics: Metrics, tracer: Tracer | None) -> Sequence[Around]:
    """Everything that stands around a handler, outermost first."""
    return (
        Faults(),
        Meter(metrics, time.perf_counter),
        Journal(time.perf_counter),
        Trace(tracer),
        Identity(settings.callers, settings.admins, certificates=bool(settings.tls.client_ca_file)),
        BudgetGate(settings.max_calls, turn_timeout, time.monotonic),
        WeightGate(settings.max_large_mebibytes << 20),
    )


class Draining(Protocol):
    """What is told to come to an end before the port closes."""

    def refuse_new(self) -> None:
        """Lets no more turns begin."""
        ...

    async def finish_turns(self, seconds: float) -> None:
        """Lets what runs finish for up to ``seconds``."""
        ...

    def send_channels_away(self) -> None:
        """Ends the streams of attached channels; what they have open stays owed."""
        ...


class Port:
    """An open gRPC port."""

    def __init__(self, server: grpc.aio.Server, number: int, settings: GrpcSettings, probes: HealthServicer) -> None:
        self._server = server
        self._settings = settings
        self._probes = probes
        self.number: Final = number

    async def drain(self, work: Draining) -> None:
        """Comes to a clean end: balancers look away, turns under way finish, then the port closes.

        While turns finish, calls about them are still answered; only new turns are
        refused (``SHUTTING_DOWN``), and their callers go to another server.
        """
        self._probes.leave()
        await asyncio.sleep(self._settings.lame_duck_seconds)
        began = time.monotonic()
        work.refuse_new()
        await work.finish_turns(self._settings.drain_seconds)
        work.send_channels_away()
        left = self._settings.drain_seconds - (time.monotonic() - began)
        await self._server.stop(max(_LAST_WORDS_SECONDS, left))
        _log.info("drained", seconds=round(time.monotonic() - began, 2))


@asynccontextmanager
async def serving(
    settings: GrpcSettings,
    *,
    turns: TurnService,
    deliveries: DeliveryService,
    pushes: PushService,
    turn_timeout: float,
    ready: Health,
    metrics: Metrics,
    tracer: Tracer | None = None,
    lexicon: LexiconAdmin | None = None,
    around: Callable[[Sequence[Around]], Sequence[Around]] = lambda concerns: concerns,
) -> AsyncIterator[Port]:
    """Opens the port and gives it; leaving closes it at once (:meth:`Port.drain` closes it gently).

    Args:
        turn_timeout: seconds for a caller without a deadline.
        ready: its readiness is what the health service reports.
        lexicon: what administrators may change. Without it, and without ``settings.admins``, the port has no
            service for them.
        around: lets a test look at, or add to, what stands around the handlers.

    Raises:
        SettingsError: for certificates that cannot be read.
        CannotStart: if the address is taken.
    """
    server = grpc.aio.server(options=server_options(turn_timeout))
    # It has what generated code calls of a server.
    wrapped = cast("grpc.aio.Server", Registrar(server, around(concerns(settings, turn_timeout, metrics, tracer))))
    conversation_pb2_grpc.add_ConversationServiceServicer_to_server(ConversationServicer(turns, turn_timeout), wrapped)
    channel_pb2_grpc.add_ChannelServiceServicer_to_server(ChannelServicer(deliveries, pushes, turn_timeout), wrapped)
    services: Sequence[str] = SERVICES
    if lexicon is not None and settings.admins:
        admin_pb2_grpc.add_AdminServiceServicer_to_server(AdminServicer(lexicon), wrapped)
        services = (*SERVICES, ADMIN_SERVICE)
    probes = HealthServicer(ready, services)
    health_pb2_grpc.add_HealthServicer_to_server(probes, wrapped)
    if settings.reflection == "on" or (settings.reflection == "auto" and is_loopback(settings.address)):
        reflection.enable_server_reflection((*services, _HEALTH, reflection.SERVICE_NAME), server)
    number = _bind(server, settings)
    await server.start()
    try:
        yield Port(server, number, settings, probes)
    finally:
        await server.stop(0)


def _bind(server: grpc.aio.Server, settings: GrpcSettings) -> int:
    credentials = credentials_of(settings.tls)
    try:
        if credentials is None:
            return server.add_insecure_port(settings.address)
        return server.add_secure_port(settings.address, credentials)
    except RuntimeError as error:
        raise CannotStart(
            f"cannot listen on {settings.address}: the address is in use or not of this machine"
        ) from error


# --- certificates ---------------------------------------------------------------------------


def credentials_of(tls: TlsSettings) -> grpc.ServerCredentials | None:
    """The port's certificates, read again for new connections once the files have changed; ``None`` without TLS.

    Raises:
        SettingsError: for files that cannot be read, and for half a pair.
    """
    if not (tls.certificate_file or tls.key_file):
        if tls.client_ca_file:
            raise SettingsError("grpc.tls.client_ca_file", "needs certificate_file and key_file beside it; set them")
        return None
    files = CertificateFiles(tls)
    return grpc.dynamic_ssl_server_credentials(
        files.read(), files.changed, require_client_authentication=bool(tls.client_ca_file)
    )


class CertificateFiles:
    """The three files. gRPC asks for changes from threads of its own, at each handshake."""

    def __init__(self, tls: TlsSettings) -> None:
        self._tls = tls
        self._seen: tuple[int, ...] = ()

    def read(self) -> Any:
        """The certificates as they are on disk.

        Raises:
            SettingsError: naming the file that cannot be read.
        """
        self._seen = self._stamps()
        certificate = _file("grpc.tls.certificate_file", self._tls.certificate_file)
        key = _file("grpc.tls.key_file", self._tls.key_file)
        ca = _file("grpc.tls.client_ca_file", self._tls.client_ca_file) if self._tls.client_ca_file else None
        return grpc.ssl_server_certificate_configuration([(key, certificate)], ca)

    def changed(self) -> Any:
        """The certificates if they have changed on disk, else ``None``. Broken files leave what was read before."""
        try:
            return self.read() if self._stamps() != self._seen else None
        except SettingsError as error:
            _log.error("certificates_not_reloaded", field=error.field, rule=error.rule)
            return None

    def _stamps(self) -> tuple[int, ...]:
        paths = (self._tls.certificate_file, self._tls.key_file, self._tls.client_ca_file)
        try:
            return tuple(Path(path).stat().st_mtime_ns for path in paths if path)
        except OSError:
            return ()


def _file(field: str, path: str) -> bytes:
    if not path:
        raise SettingsError(field, "is required for TLS; set it")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(field, f"names {path}, which cannot be read: {error.strerror}") from None
