"""Channels to backends: who is trusted, what is sent in plain text, and the options that gRPC knows."""

import datetime
import ipaddress
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.protobuf.wrappers_pb2 import StringValue
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # not in the stubs; only its file is read

from program.secret import Secret
from server.budget import Budget
from server.llm.base import ErrorClass, ProviderError
from server.llm.grpc_call import GrpcLine, Method, Shape
from server.llm.grpc_channel import MAX_RECEIVE_BYTES, Endpoint, _options
from server.settings import KeySettings, ModelSettings
from tests.server.llm.grpc_upstream import says, serve

ASK = Method("/test.Talk/Ask", StringValue, Shape.UNARY)
KEY = Secret("key-0123456789")


def test_grpc_knows_every_option() -> None:
    core = Path(cygrpc.__file__).read_bytes()
    names = [name for name, _ in _options(5)]
    for name in names:
        assert name.encode() + b"\0" in core, name
    assert len(set(names)) == len(names)
    # The proof that this proves something: a spelling that gRPC would ignore in silence.
    assert b"grpc.keep_alive_time_ms" not in core


# --- keys and plain text ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "tls", "encrypted"),
    [
        ("api.example.com:443", None, True),
        ("api.example.com:443", True, True),
        ("10.0.0.7:8001", None, True),
        ("10.0.0.7:8001", False, False),
        ("127.0.0.1:8001", None, False),
        ("localhost:8001", None, False),
        ("[::1]:8001", None, False),
        ("127.0.0.1:8001", True, True),
        ("unix:/run/engine.sock", None, False),
        # Names that could mean anything count as other machines.
        ("localhost.example.com:1", None, True),
        ("dns:///localhost:1", None, True),
    ],
)
def test_what_is_encrypted(target: str, tls: bool | None, encrypted: bool) -> None:
    assert Endpoint(target, ModelSettings(tls=tls)).encrypted is encrypted


@pytest.mark.parametrize(
    "more",
    [
        {"api_key": KEY},
        {"api_key": Secret("", "file:/run/key")},
        {"keys": (KeySettings(secret=KEY),)},
    ],
)
def test_a_key_is_not_sent_in_plain_text_to_another_machine(more: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"^tls: engine\.example\.com:1 is not on this machine, and the key"):
        Endpoint("engine.example.com:1", ModelSettings(tls=False, **more))  # type: ignore[arg-type]
    assert not Endpoint("127.0.0.1:1", ModelSettings(tls=False, **more)).encrypted  # type: ignore[arg-type]


async def test_nor_one_that_comes_from_somewhere_else() -> None:
    line = GrpcLine("m", "engine.example.com:1", ModelSettings(tls=False))
    with pytest.raises(ProviderError, match="plain text") as caught:
        await line.ask(ASK, StringValue(), Budget(5), key="k")
    assert caught.value.kind is ErrorClass.BAD_REQUEST
    await line.aclose()


# --- what cannot work ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "more", "message"),
    [
        ("", {}, r"^target: names no address; set it to host:port"),
        ("engine", {}, r"^target: must be host:port"),
        ("engine:port", {}, r"^target: must be host:port"),
        ("127.0.0.1:1", {"ca_file": "x.pem"}, r"^ca_file: has no effect without TLS; set tls = true"),
        ("e:1", {"tls": False, "key_file": "x.pem"}, r"^key_file: has no effect without TLS"),
        ("e:1", {"certificate_file": "x.pem"}, r"^key_file: is missing; mTLS needs"),
        ("e:1", {"key_file": "x.pem"}, r"^certificate_file: is missing; mTLS needs"),
        ("e:1", {"ca_file": "/nowhere.pem"}, r"^ca_file: /nowhere\.pem cannot be read: No such file"),
        ("e:1", {"extra_headers": {"x y": "1"}}, r"^extra_headers: 'x y' cannot be sent over gRPC"),
        ("e:1", {"extra_headers": {"grpc-timeout": "1S"}}, r"^extra_headers: 'grpc-timeout' cannot be sent"),
        ("e:1", {"extra_headers": {"x-bin": "1"}}, r"^extra_headers: 'x-bin' cannot be sent"),
        ("e:1", {"extra_headers": {"x": "é"}}, r"^extra_headers: the value of 'x' cannot be sent"),
    ],
)
def test_what_cannot_work_is_said_with_the_field_and_a_remedy(
    target: str, more: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Endpoint(target, ModelSettings(**more))  # type: ignore[arg-type]


# --- TLS ----------------------------------------------------------------------------------------


class Authority:
    """Signs certificates for 127.0.0.1."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.pem = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        self.file = self._write(f"{name}.pem", self.pem)

    def issue(self, name: str) -> tuple[bytes, bytes, dict[str, object]]:
        """Key and certificate as PEM, and as settings."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = self._sign(subject, key, address)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        files = {
            "key_file": self._write(f"{name}-key.pem", private),
            "certificate_file": self._write(f"{name}-certificate.pem", certificate),
        }
        return private, certificate, dict(files)

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _write(self, name: str, data: bytes) -> str:
        path = self._folder / name
        path.write_bytes(data)
        return str(path)


async def asked(target: str, **more: object) -> ErrorClass | str:
    line = GrpcLine("m", target, ModelSettings(tls=True, **more))  # type: ignore[arg-type]
    try:
        return (await line.ask(ASK, StringValue(), Budget(5), key="k-1")).value
    except ProviderError as error:
        return error.kind
    finally:
        await line.aclose()


async def test_only_the_authority_that_is_named_is_trusted(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    key, certificate, _ = ours.issue("server")
    answer = says(StringValue(value="答"))
    async with serve(answer, credentials=grpc.ssl_server_credentials([(key, certificate)])) as upstream:
        assert await asked(upstream.target, ca_file=ours.file) == "答"
        assert await asked(upstream.target, ca_file=theirs.file) is ErrorClass.TRANSIENT
        assert await asked(upstream.target) is ErrorClass.TRANSIENT
        assert len(upstream.calls) == 1


async def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    key, certificate, _ = ours.issue("server")
    credentials = grpc.ssl_server_credentials([(key, certificate)], ours.pem, require_client_auth=True)
    async with serve(says(StringValue(value="答")), credentials=credentials) as upstream:
        assert await asked(upstream.target, ca_file=ours.file, **ours.issue("us")[2]) == "答"
        assert await asked(upstream.target, ca_file=ours.file, **theirs.issue("others")[2]) is ErrorClass.TRANSIENT
        assert await asked(upstream.target, ca_file=ours.file) is ErrorClass.TRANSIENT


# --- sizes ----------------------------------------------------------------------------------------


async def test_messages_beyond_the_limit_are_cut_replies() -> None:
    fits, exceeds = StringValue(value="x" * (8 << 20)), StringValue(value="x" * MAX_RECEIVE_BYTES)
    async with serve(says(fits), says(exceeds)) as upstream:
        line = GrpcLine("m", upstream.target, ModelSettings())
        assert len((await line.ask(ASK, StringValue(), Budget(20))).value) == 8 << 20
        with pytest.raises(ProviderError) as caught:
            await line.ask(ASK, StringValue(), Budget(20))
        assert caught.value.kind is ErrorClass.INCOMPLETE
        await line.aclose()
