import pytest

from program.binding import is_loopback, refusal, split_address


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.8.8.8:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("::1:1", True),
        ("unix:/run/x.sock", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("server:1", False),
        ("localhost.example.com:1", False),
    ],
)
def test_what_only_this_machine_can_reach(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


@pytest.mark.parametrize("address", ["", "host", "host:", ":80", "host:x", "host:-1", "host:65536", "host:１"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="must"):
        split_address(address)


def test_host_and_port() -> None:
    assert split_address("[::1]:0") == ("::1", 0)
    assert split_address("host:65535") == ("host", 65535)


def test_an_open_port_is_refused_unless_something_allows_it() -> None:
    reason = refusal("0.0.0.0:1", protected=False, allowed=False, flag="grpc.insecure_listen")
    assert reason is not None
    assert "grpc.insecure_listen = true" in reason
    assert refusal("0.0.0.0:1", protected=True, allowed=False, flag="f") is None
    assert refusal("0.0.0.0:1", protected=False, allowed=True, flag="f") is None
    assert refusal("127.0.0.1:1", protected=False, allowed=False, flag="f") is None
