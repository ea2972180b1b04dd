import pytest

from server.llm.base_address import call_address


@pytest.mark.parametrize(
    ("base", "address"),
    [
        ("https://api.example.com/v1", "https://api.example.com/v1/call"),
        ("https://api.example.com/v1/", "https://api.example.com/v1/call"),
        ("https://api.example.com", "https://api.example.com/v9/call"),
        ("https://api.example.com/", "https://api.example.com/v9/call"),
        ("https://api.example.com/v1beta", "https://api.example.com/v1beta/call"),
        ("https://api.example.com/apps/vendor", "https://api.example.com/apps/vendor/v9/call"),
        ("http://[::1]:8000/v1?key=a%20b#part", "http://[::1]:8000/v1/call?key=a%20b"),
    ],
)
def test_the_version_is_put_in_where_it_is_missing(base: str, address: str) -> None:
    assert call_address(base, "v9", "call") == address


def test_queries_are_joined() -> None:
    assert call_address("https://a/v1", "v1", "m:x", "alt=sse") == "https://a/v1/m:x?alt=sse"
    assert call_address("https://a/v1?k=1", "v1", "m:x", "alt=sse") == "https://a/v1/m:x?k=1&alt=sse"
