"""Source addresses: what lists mean, and who a request comes from behind proxies."""

from ipaddress import ip_address

import pytest

from adapter.callbacks.ranges import Ranges, address, client, network


@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        ("101.226.103.*", ["101.226.103.0", "101.226.103.255"], ["101.226.102.255", "101.226.104.0"]),
        ("101.226.*.*", ["101.226.0.0", "101.226.255.255"], ["101.227.0.0"]),
        ("10.*.*.*", ["10.255.0.1"], ["11.0.0.0"]),
        ("140.207.54.74", ["140.207.54.74"], ["140.207.54.75"]),
        ("180.163.32.0/22", ["180.163.32.0", "180.163.35.255"], ["180.163.36.0"]),
        ("0.0.0.0/0", ["1.2.3.4", "255.255.255.255"], ["2001:db8::1"]),
        ("2402:4e00::/32", ["2402:4e00::1", "2402:4e00:ffff::"], ["2402:4e01::", "1.2.3.4"]),
        ("::ffff:1.2.3.4", ["1.2.3.4"], ["1.2.3.5"]),
        ("::ffff:1.2.3.0/120", ["1.2.3.9"], ["1.2.4.0"]),
        (" 1.2.3.4 ", ["1.2.3.4"], ["1.2.3.5"]),
    ],
)
def test_what_an_entry_means(entry: str, inside: list[str], outside: list[str]) -> None:
    ranges = Ranges([network("192.0.2.1"), network(entry)])
    assert all(ip_address(one) in ranges for one in inside)
    assert not any(ip_address(one) in ranges for one in outside)


@pytest.mark.parametrize(
    "entry",
    ["", "*", "*.*.*.*", "1.*.3.4", "1.2.3", "1.2.3.*.*", "1.2.3.0/33", "1.2.3.1/24", "300.1.1.*", "::*"],
)
def test_what_is_no_entry(entry: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        network(entry)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1.2.3.4", "1.2.3.4"),
        (" 1.2.3.4:5678 ", "1.2.3.4"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("[::ffff:1.2.3.4]:80", "1.2.3.4"),
        ("2001:db8::1", "2001:db8::1"),
        ('"[2001:db8::1]:443"', "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("unknown", None),
        ("_hidden", None),
        ("1.2.3.4:port", None),
        ("[2001:db8::1", "2001:db8::1"),
        ("1.2.3", None),
        ("", None),
    ],
)
def test_an_address_in_a_header(text: str, found: str | None) -> None:
    assert address(text) == (ip_address(found) if found else None)


PROXIES = Ranges(map(network, ["127.0.0.1", "::1", "10.0.0.0/8", "fd00::/8"]))


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        # Nobody in between.
        ("203.0.113.9", [], "203.0.113.9"),
        ("::ffff:203.0.113.9", [], "203.0.113.9"),
        # A stranger who writes the header is still the stranger.
        ("203.0.113.9", ["101.226.103.1"], "203.0.113.9"),
        ("203.0.113.9", ["101.226.103.1", "10.0.0.1"], "203.0.113.9"),
        # One proxy, two proxies.
        ("127.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.1.1.1", ["203.0.113.9", "10.2.2.2"], "203.0.113.9"),
        ("::1", ["2001:db8::7", "fd00::2"], "2001:db8::7"),
        ("::ffff:10.1.1.1", [" 203.0.113.9:1234 "], "203.0.113.9"),
        # What the stranger wrote in front is not believed.
        ("127.0.0.1", ["101.226.103.1", "203.0.113.9"], "203.0.113.9"),
        ("10.1.1.1", ["101.226.103.1", "203.0.113.9", "10.2.2.2"], "203.0.113.9"),
        ("10.1.1.1", ["10.3.3.3", "203.0.113.9", "10.2.2.2"], "203.0.113.9"),
        # A chain of proxies alone is the innermost of them; a header that is missing, the proxy itself.
        ("10.1.1.1", ["10.3.3.3", "10.2.2.2"], "10.3.3.3"),
        ("127.0.0.1", [], "127.0.0.1"),
        # Nobody can say.
        ("127.0.0.1", ["unknown"], None),
        ("127.0.0.1", ["203.0.113.9", "nonsense"], None),
        ("127.0.0.1", [""], None),
        ("", [], None),
    ],
)
def test_who_a_request_comes_from(peer: str, forwarded: list[str], found: str | None) -> None:
    assert client(peer, forwarded, PROXIES) == (ip_address(found) if found else None)


def test_a_chain_without_end_is_not_followed() -> None:
    assert client("10.0.0.1", ["203.0.113.9"] + ["10.0.0.2"] * 10_000, PROXIES) == ip_address("10.0.0.2")
