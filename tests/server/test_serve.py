"""The port: who may connect, one server a port, and a drain that loses nobody."""

import asyncio
import contextlib
import datetime
import hashlib
import ipaddress
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

from program.run import CannotStart
from program.settings import SettingsError
from server.errors import ShuttingDown
from server.rpc.options import server_options
from server.serve import credentials_of
from server.settings import CallerSettings, GrpcSettings, TlsSettings
from tests.server.rpc.fake_lexicon import FakeLexicon
from tests.server.rpc.fakes import Open, open_server
from weconverse.v1 import admin_pb2, channel_pb2
from weconverse.v1 import conversation_pb2 as pb

ASK = pb.ConverseRequest(conversation="conversations/a", input={"parts": [{"text": "问"}]})

# --- certificates ---------------------------------------------------------------------------


class Authority:
    """A certificate authority for one test."""

    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._signed(self.name, self.key, x509.BasicConstraints(ca=True, path_length=None))
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def _signed(self, subject: x509.Name, key: Any, *extensions: x509.ExtensionType) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, name: str, *alternatives: x509.GeneralName) -> tuple[bytes, bytes]:
        """Key and certificate, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
        names = (x509.SubjectAlternativeName(alternatives),) if alternatives else ()
        certificate = self._signed(subject, key, *names)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return private, certificate.public_bytes(serialization.Encoding.PEM)


LOCAL = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))


def write_tls(folder: Path, authority: Authority, *, mutual: bool) -> TlsSettings:
    key, certificate = authority.issue("server", *LOCAL)
    (folder / "key.pem").write_bytes(key)
    (folder / "certificate.pem").write_bytes(certificate)
    (folder / "ca.pem").write_bytes(authority.pem)
    return TlsSettings(
        certificate_file=str(folder / "certificate.pem"),
        key_file=str(folder / "key.pem"),
        client_ca_file=str(folder / "ca.pem") if mutual else "",
    )


async def converse(server: Open, **rest: Any) -> str:
    try:
        await server.conversation.Converse(ASK, timeout=5, **rest)
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"


async def test_a_client_certificate_names_the_caller(tmp_path: Path) -> None:
    authority, stranger = Authority("ours"), Authority("theirs")
    settings = GrpcSettings(address="127.0.0.1:0", tls=write_tls(tmp_path, authority, mutual=True))
    spiffe = x509.UniformResourceIdentifier("spiffe://example.com/adapter")
    cases = [
        (authority.issue("adapter"), "OK", "adapter"),
        (authority.issue("other", x509.DNSName("reports.internal"), spiffe), "OK", "spiffe://example.com/adapter"),
        (authority.issue("other", x509.DNSName("reports.internal")), "OK", "reports.internal"),
        (authority.issue(""), "UNAUTHENTICATED", None),
        (stranger.issue("adapter"), "UNAVAILABLE", None),
        ((None, None), "UNAVAILABLE", None),
    ]
    for (key, certificate), code, caller in cases:
        credentials = grpc.ssl_channel_credentials(authority.pem, key, certificate)
        async with open_server(settings, credentials=credentials) as server:
            assert await converse(server) == code
            assert [ask.caller for ask in server.turns.asks] == ([caller] if caller else [])
    async with open_server(settings) as server:
        assert await converse(server) == "UNAVAILABLE"  # without TLS at all


async def test_a_certificate_makes_no_administrator(tmp_path: Path) -> None:
    authority, token = Authority("ours"), hashlib.sha256(b"admin").hexdigest()
    settings = GrpcSettings(
        address="127.0.0.1:0",
        tls=write_tls(tmp_path, authority, mutual=True),
        admins=(CallerSettings(name="王", token_sha256=(token,)),),
    )
    key, certificate = authority.issue("adapter")
    credentials = grpc.ssl_channel_credentials(authority.pem, key, certificate)
    async with open_server(settings, credentials=credentials, lexicon=FakeLexicon()) as server:
        reload = server.admin.ReloadLexicon
        for wrong in (None, (("authorization", "Bearer other"),)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await reload(admin_pb2.ReloadLexiconRequest(), metadata=wrong)
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        await reload(admin_pb2.ReloadLexiconRequest(), metadata=(("authorization", "Bearer admin"),))


async def test_certificates_are_read_again(tmp_path: Path) -> None:
    first, second = Authority("first"), Authority("second")
    settings = GrpcSettings(address="127.0.0.1:0", tls=write_tls(tmp_path, first, mutual=False))
    async with open_server(settings, credentials=grpc.ssl_channel_credentials(first.pem)) as server:
        assert await converse(server) == "OK"
        write_tls(tmp_path, second, mutual=False)
        for authority, code in ((second, None), (first, grpc.StatusCode.UNAVAILABLE)):
            credentials = grpc.ssl_channel_credentials(authority.pem)
            async with grpc.aio.secure_channel(f"localhost:{server.port.number}", credentials) as channel:
                call = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
                if code is None:
                    await call
                else:
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await call
                    assert caught.value.code() is code
        (tmp_path / "key.pem").unlink()
        assert await converse(server) == "OK"


def test_half_a_pair_of_files_is_refused(tmp_path: Path) -> None:
    whole = write_tls(tmp_path, Authority("ours"), mutual=True)
    for broken, field in (
        (TlsSettings(certificate_file=whole.certificate_file), "key_file"),
        (TlsSettings(key_file=whole.key_file), "certificate_file"),
        (TlsSettings(client_ca_file=whole.client_ca_file), "client_ca_file"),
        (TlsSettings(certificate_file=whole.certificate_file, key_file="/none"), "key_file"),
    ):
        with pytest.raises(SettingsError) as caught:
            credentials_of(broken)
        assert caught.value.field == f"grpc.tls.{field}"
    assert credentials_of(TlsSettings()) is None


# --- the port -------------------------------------------------------------------------------


async def test_a_second_server_on_the_port_fails() -> None:
    async with open_server() as first:
        with pytest.raises(CannotStart, match="the address is in use"):
            async with open_server(GrpcSettings(address=f"127.0.0.1:{first.port.number}")):
                pass


def test_an_aged_connection_outlives_its_longest_turn() -> None:
    options = dict(server_options(120.0))
    assert options["grpc.max_connection_age_grace_ms"] == 150_000


# --- the drain ------------------------------------------------------------------------------


class Work:
    """What a drain tells the rooms, passed on to the fakes."""

    def __init__(self, server: Open) -> None:
        self.server = server
        self.told: list[str] = []
        self.finished = asyncio.Event()

    def refuse_new(self) -> None:
        self.told.append("refuse")

    async def finish_turns(self, seconds: float) -> None:
        self.told.append(f"finish {seconds:g}")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.finished.wait(), seconds)

    def send_channels_away(self) -> None:
        self.told.append("channels")
        self.server.deliveries.attachment.outgoing.put_nowait(ShuttingDown())


async def rest(stream: Any) -> list[Any]:
    """What a stream still has to say; one that was begun with ``read`` cannot be iterated."""
    events = []
    while (event := await stream.read()) is not grpc.aio.EOF:
        events.append(event)
    return events


async def test_streams_under_way_finish_and_watchers_and_channels_go() -> None:
    settings = GrpcSettings(address="127.0.0.1:0", drain_seconds=30)
    async with open_server(settings) as server:
        server.turns.go_on.clear()
        streams = [server.conversation.StreamConverse(ASK) for _ in range(20)]
        for stream in streams:
            assert (await stream.read()).HasField("started")
        watch = health_pb2_grpc.HealthStub(server.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        attached = server.attaching.Attach()
        hello = channel_pb2.Hello(account="channels/a/accounts/b", instance="i")
        await attached.write(channel_pb2.AttachRequest(hello=hello))

        work = Work(server)
        began = asyncio.get_running_loop().time()
        drain = asyncio.create_task(server.port.drain(work))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await watch.read() is grpc.aio.EOF
        # While turns finish, calls about them are answered.
        await server.conversation.GetTurn(pb.GetTurnRequest(name="conversations/a/turns/b"))
        assert work.told == ["refuse", "finish 30"]
        server.turns.go_on.set()
        work.finished.set()
        for stream in streams:
            assert (await rest(stream))[-1].HasField("completed")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await attached.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await drain
        assert asyncio.get_running_loop().time() - began < 5
        assert await converse(server) == "UNAVAILABLE"


async def test_what_does_not_finish_is_cut_when_the_time_is_over() -> None:
    async with open_server(GrpcSettings(address="127.0.0.1:0", drain_seconds=0)) as server:
        server.turns.go_on.clear()
        stream = server.conversation.StreamConverse(ASK)
        await stream.read()
        work = Work(server)
        work.finished.set()
        began = asyncio.get_running_loop().time()
        await server.port.drain(work)
        assert asyncio.get_running_loop().time() - began < 5
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rest(stream)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert server.turns.left.is_set()


async def test_a_lame_duck_says_so_and_still_answers() -> None:
    async with open_server(GrpcSettings(address="127.0.0.1:0", lame_duck_seconds=0.3)) as server:
        work = Work(server)
        work.finished.set()
        drain = asyncio.create_task(server.port.drain(work))
        health = health_pb2_grpc.HealthStub(server.channel)
        assert (
            await health.Check(health_pb2.HealthCheckRequest())
        ).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await converse(server) == "OK"
        assert work.told == []
        await drain
