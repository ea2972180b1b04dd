"""The product as a subject: its two programs, with settings made for measuring.

Nothing is switched off: the store is a file with full durability, the log goes to a file,
memory and cache have their defaults. Bounds that protect a machine are raised where the load
of a benchmark would meet them, since a refusal is not what is to be measured.
"""

import contextlib
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from bench import bot_platform
from bench.envelope import Door
from bench.subject import ROOT, SUBJECT_CORE, Program, Running, process

READY_SECONDS = 30.0
ASSISTANTS = {
    "whole": "tokens-64",
    "long": "tokens-500",
    "paced": "tokens-64-gap-10",
    "talking": "tokens-64-gap-50",
    "thinking": "tokens-64-first-4000",
    "silent": "tokens-64-first-100000",
    "growing": "tokens-64-gap-500",
}
"""Assistants by name, and the model of the mock upstream that each asks."""

_DOOR = Door(
    address="",
    path="/wecom/app/bench",
    corp_id="ww0123456789bench0",
    agent_id=1000002,
    token="BenchCallbackToken",
    encoding_aes_key="jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C",
)


class NotReady(Exception):
    """A program of the product did not become ready. The text ends with what it wrote."""


def door(address: str) -> Door:
    """The callback address of the bench's application, at an adapter or at the bare handler."""
    return msgspec.structs.replace(_DOOR, address=address)


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """The server, and with ``wecom`` the adapter as well."""

    upstream: str
    """The mock upstream, as ``host:port``."""
    wecom: str = ""
    """The fake WeCom API, as ``host:port``."""
    provider: str = ""
    """The mock upstream over gRPC, as ``host:port``; each assistant then has a twin that asks this one."""
    filter_list: str = ""
    """A list of words; there are then two more assistants, ``paced-filtered`` and ``paced-open``."""
    bot: str = ""
    """A fake long connection of WeCom, as ``host:port``; the adapter then has a bot."""
    app_assistant: str = "whole"
    """The assistant that answers the application."""
    adapter_core: int = SUBJECT_CORE
    wrapper: Callable[[str], tuple[str, ...]] = lambda _program: ()
    """What ``python -m`` runs around a program, by the program's name."""

    @contextlib.contextmanager
    def started(self) -> Iterator[Running]:
        """Starts the programs in an empty folder, waits until they are ready, and stops them on leaving."""
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=_disk())))
            grpc, http, server_ready, adapter_ready = _free_addresses(4)
            pids = {}
            config = _server_settings(folder, grpc, server_ready, self.upstream, self.provider)
            if self.filter_list:
                config += _filter_settings(self.filter_list)
            pids["server"] = stack.enter_context(self._program("server", folder, config, server_ready, SUBJECT_CORE))
            if self.wecom:
                config = _adapter_settings(grpc, http, adapter_ready, self.wecom, self.bot, self.app_assistant)
                if self.bot:
                    config += _BOT
                core = self.adapter_core
                pids["adapter"] = stack.enter_context(self._program("adapter", folder, config, adapter_ready, core))
            yield Running("product", {"grpc": grpc, "http": http}, pids)

    @contextlib.contextmanager
    def _program(self, name: str, folder: Path, config: str, ready: str, core: int) -> Iterator[int]:
        file, output = folder / f"{name}.toml", folder / f"{name}.log"
        file.write_text(config)
        program = Program(name, ("--config", str(file)))
        with process(program, core=core, output=output, wrapper=self.wrapper(name)) as child:
            deadline = time.monotonic() + READY_SECONDS
            while not _is_ready(ready):
                if child.poll() is not None or time.monotonic() > deadline:
                    raise NotReady(f"{name}: {output.read_text(errors='replace')[-2000:]}")
                time.sleep(0.01)
            yield child.pid


def _disk() -> Path:
    """A folder beside the code: the system's own for temporary files may be memory, where durability costs nothing."""
    folder = ROOT / "var"
    folder.mkdir(exist_ok=True)
    return folder


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _free_addresses(count: int) -> list[str]:
    """Addresses that were free a moment ago: the programs take theirs from settings."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


def _server_settings(folder: Path, grpc: str, operations: str, upstream: str, provider: str) -> str:
    tables = [
        f'[grpc]\naddress = "{grpc}"\nmax_calls = 100000\ndrain_seconds = 0.5',
        f'[operations]\naddress = "{operations}"',
        f'[store]\npath = "{folder / "bench.db"}"',
        "[turns]\nmax_turns = 100000\nmax_waiting_per_conversation = 100000",
    ]
    for name, model in {"default": "tokens-64", **ASSISTANTS}.items():
        tables.append(f'[assistants.{name}]\nmodel = "{model}"')
    for model in set(ASSISTANTS.values()):
        tables.append(
            f'[models.{model}]\nprotocol = "openai_chat"\nbase_url = "http://{upstream}/v1"\nmodel = "{model}"\n'
            "limits = { requests_per_minute = 0 }\n"
            "max_connections = 4096\nfirst_token_seconds = 200.0\nidle_seconds = 200.0"
        )
    if provider:
        for name, model in ASSISTANTS.items():
            tables.append(f'[assistants.{name}-grpc]\nmodel = "{model}-grpc"')
        for model in set(ASSISTANTS.values()):
            tables.append(
                f'[models.{model}-grpc]\npreset = "provider_service"\ntarget = "{provider}"\nmodel = "{model}"\n'
                "limits = { requests_per_minute = 0 }\n"
                "max_connections = 4096\nfirst_token_seconds = 200.0\nidle_seconds = 200.0"
            )
    return "\n\n".join(tables) + "\n"


def _filter_settings(words: str) -> str:
    return (
        f'\n[filter]\nlists = ["{words}"]\nmax_words = 2000000\n\n'
        '[assistants.paced-filtered]\nmodel = "tokens-64-gap-10"\nfilter_policy = "default"\n\n'
        '[assistants.paced-open]\nmodel = "tokens-64-gap-10"\nfilter_policy = ""\n'
    )


def _adapter_settings(grpc: str, http: str, operations: str, wecom: str, bot: str, assistant: str) -> str:
    return f"""
[server]
target = "{grpc}"

[listen]
address = "{http}"
drain_seconds = 0.5

[operations]
address = "{operations}"

[wecom]
api_base = "http://{wecom}"
socket_base = "ws://{bot or wecom}/openws"

[apps.bench]
corp_id = "{_DOOR.corp_id}"
agent_id = {_DOOR.agent_id}
secret = "bench-secret"
token = "{_DOOR.token}"
encoding_aes_key = "{_DOOR.encoding_aes_key}"
assistant = "{assistant}"
"""


_BOT = f"""
[bots.bench-bot]
bot_id = "{bot_platform.BOT_ID}"
secret = "{bot_platform.SECRET}"
assistant = "growing"
"""
