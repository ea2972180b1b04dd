"""What an account of any door is to the program: something that runs, stops, and may be called."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import NamedTuple

import aiohttp

from adapter.access.directory import Directory
from adapter.callbacks.gate import Gate
from adapter.media.attachments import Fetching
from adapter.metrics import Metrics
from adapter.rereading import Rereading
from adapter.rest.api import WeComApi
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
    apis: Mapping[str, WeComApi]
    """The HTTP interface of each self-built application, by account name; whoever needs one of them shares it."""
    directories: Mapping[str, Directory]
    """Where the rules of access of an account look people up, by account name; those without such rules have none."""
    rereading: Rereading
    """Tells when a secret of an account was replaced."""
    media: Fetching
    """Makes what fetches the attachments of messages."""
