import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos-long", action="store_true", help="at least 30 kills and 1,500 acknowledged messages")
