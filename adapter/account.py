"""What an account of any door is to the program: something that runs, stops, and may be called."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import NamedTuple

import aiohttp

from adapter.gate import Gate
from adapter.metrics import Metrics
from adapter.settings import Settings
from weconverse import ConversationClient


class Account(NamedTuple):
    """An account at work."""

    run: Callable[[], Awaitable[None]]
    """Returns after :attr:`drain`, or runs until it is cancelled."""
    drain: Callable[[float], Awaitable[object]]
    """Lets what is under way finish for at most that many seconds; then ``run`` returns."""


class Shared(NamedTuple):
    """What all accounts are made from."""

    settings: Settings
    client: ConversationClient
    session: aiohttp.ClientSession
    metrics: Metrics
    gate: Gate
    stack: AsyncExitStack
    """Closed after every account has ended, in reverse."""
    instance: str
    """The name of this instance in logs, at most 64 characters."""
    pseudonym_key: bytes
