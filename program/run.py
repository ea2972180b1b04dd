"""The command line, the signals and the exit codes that every program shares."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

import msgspec

from program.journal import configure
from program.settings import SettingsError, load, printable

# The C core of gRPC writes lines like "Got goaway" to stderr on its own, past every logging
# configuration. It reads this when it is first used; programs import this module first.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

OK: Final = 0
FAILED: Final = 1
"""It could not start, or broke down; stderr says why."""
WRONG_SETTINGS: Final = 2
"""The command line or a setting is wrong; stderr names the field and the reason."""


class CannotStart(Exception):
    """A program cannot start for a reason that an operator can act on: shown without a traceback."""


class LogLines(Protocol):
    """The settings of log lines, which every program has under ``log``."""

    @property
    def level(self) -> Literal["debug", "info", "warning", "error"]: ...

    @property
    def format(self) -> Literal["json", "text"]: ...


S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True)
class Errand(Generic[S]):
    """Something a program does instead of serving, asked for by a flag with an optional value."""

    flag: str
    """With its dashes, for example ``--replay-undeliverable``."""
    metavar: str
    help: str
    run: Callable[[S, str | None], Awaitable[str]]
    """Does it and returns the line to print. Raises :class:`CannotStart` if it cannot."""


@dataclass(frozen=True)
class Program(Generic[S]):
    """What a program hands over to be run."""

    name: str
    """As in ``python -m <name>``."""
    summary: str
    prefix: str
    """Of the environment variables that override settings."""
    settings: type[S]
    log: Callable[[S], LogLines]
    plan: Callable[[S], Iterable[str]]
    """Checks what the settings' types cannot, and says what the program would do, a line each.

    Raises :class:`SettingsError` for what is wrong. Opens no port and no file for writing.
    """
    serve: Callable[[S, asyncio.Event], Awaitable[None]]
    """Serves until the event is set, and then stops cleanly.

    Raises :class:`CannotStart`, or :class:`SettingsError` for a setting that turns out wrong only then.
    """
    errands: tuple[Errand[S], ...] = ()
    rehearse: Callable[[S], None] = lambda settings: None
    """Finds what else would keep ``serve`` from starting by its settings, in files that it reads: for ``--check``.

    Errands do without, because one may be what makes such a file. Raises :class:`SettingsError`.
    """


def run(program: Program[Any], argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Runs a program and returns its exit code.

    Args:
        argv: the arguments without the program's name; those of the process if ``None``.
        environ: the environment; that of the process if ``None``.
    """
    arguments = _parse(program, argv)
    try:
        settings = load(program.settings, arguments.config, os.environ if environ is None else environ, program.prefix)
        plan = list(program.plan(settings))
        if arguments.check:
            program.rehearse(settings)
            print(printable(settings) + "\n" + "\n".join(plan))
            return OK
        log = program.log(settings)
        configure(log.level, log.format)
        return asyncio.run(_work(program, settings, arguments))
    except SettingsError as error:
        print(f"{program.name}: {error}", file=sys.stderr)
        return WRONG_SETTINGS
    except CannotStart as error:
        print(f"{program.name}: {error}", file=sys.stderr)
        return FAILED


def _parse(program: Program[Any], argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {program.name}", description=program.summary)
    parser.add_argument("--config", metavar="FILE", type=Path, help="the settings, a TOML file")
    parser.add_argument("--check", action="store_true", help="check the settings, print what would be done, and end")
    for number, errand in enumerate(program.errands):
        # `const` marks the flag without a value: argparse gives None for the flag left out.
        parser.add_argument(
            errand.flag, metavar=errand.metavar, dest=_dest(number), nargs="?", const="", default=None, help=errand.help
        )
    return parser.parse_args(argv)


def _dest(number: int) -> str:
    return f"errand_{number}"


async def _work(program: Program[Any], settings: Any, arguments: argparse.Namespace) -> int:
    for number, errand in enumerate(program.errands):
        value = getattr(arguments, _dest(number))
        if value is not None:
            print(await errand.run(settings, value or None))
            return OK
    await program.serve(settings, stop_on_signals())
    # The loop hands the signals back as it closes: a second one would then end a clean stop as a crash. They wait
    # until the process, which has nothing left to do, is gone.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    return OK


_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. Needs a running loop in the main thread.

    Further signals change nothing: a stop has its own bounds, and a terminal and a
    supervisor often both send one.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _STOPPING:
        loop.add_signal_handler(number, stop.set)
    return stop
