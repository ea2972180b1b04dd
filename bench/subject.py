"""What is measured, behind one small interface: start it, know its addresses, read its CPU, stop it.

The subject runs on one core, and everything that drives it on another, where there are two.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from bench import proc

ROOT = Path(__file__).resolve().parents[1]
_PR_SET_PDEATHSIG = 1
_STOP_SECONDS = 15.0
_CORES = sorted(os.sched_getaffinity(0))
SUBJECT_CORE = _CORES[0]
DRIVER_CORE = _CORES[min(1, len(_CORES) - 1)]


class Program(msgspec.Struct, frozen=True):
    """One program of a subject: ``python -m module arguments``."""

    module: str
    arguments: tuple[str, ...] = ()


class Running(msgspec.Struct, frozen=True):
    """A subject that is up."""

    name: str
    addresses: Mapping[str, str]
    """By kind (``grpc``, ``http``), as ``host:port``."""
    pids: Mapping[str, int]
    """By name of the program; ``bench.proc`` reads the whole tree below each."""

    def resident_bytes(self) -> int:
        return sum(proc.resident_bytes(pid) for pid in self.pids.values())


class Subject(msgspec.Struct, frozen=True):
    """A baseline: a program of this folder that prints its ports as JSON when it is ready."""

    name: str
    program: Program

    @contextlib.contextmanager
    def started(self, *, core: int | None = None) -> Iterator[Running]:
        """Starts it on ``core`` (that of the subjects by default), and stops it on leaving."""
        with process(self.program, core=SUBJECT_CORE if core is None else core, announces=True) as child:
            assert child.stdout is not None
            line = child.stdout.readline()
            if not line:
                raise RuntimeError(f"{self.name} did not start")
            ports: dict[str, int] = json.loads(line)
            addresses = {kind: f"127.0.0.1:{port}" for kind, port in ports.items()}
            yield Running(self.name, addresses, {self.name: child.pid})


@contextlib.contextmanager
def process(
    program: Program,
    *,
    core: int,
    announces: bool = False,
    environment: Mapping[str, str] | None = None,
    output: Path | None = None,
    errors: int | None = None,
    wrapper: Sequence[str] = (),
) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs a program on a core, and ends it on leaving: SIGTERM, then SIGKILL after 15 seconds.

    It also gets SIGTERM when this process dies, so that nothing stays behind.

    Args:
        announces: whether to read its first line from ``stdout``.
        output: where its output goes; by default nowhere but for errors of the bench's own programs.
        errors: where its error output goes, if not to ``output``; as for ``subprocess.Popen``.
        wrapper: arguments of ``python -m`` that stand before the module and run it.
    """
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(output.open("ab")) if output else None
        child = subprocess.Popen(
            [sys.executable, "-m", *wrapper, program.module, *program.arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if announces else (log or subprocess.DEVNULL),
            stderr=log if errors is None else errors,
            env={**os.environ, "GRPC_VERBOSITY": "ERROR", **(environment or {})},
            preexec_fn=lambda: _settle(core),  # safe: this process has one thread
            start_new_session=True,  # Ctrl-C reaches the bench alone, which then stops its children in order
        )
        try:
            yield child
        finally:
            _end(child)


def _settle(core: int) -> None:
    os.sched_setaffinity(0, {core})
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(child: "subprocess.Popen[bytes]") -> None:
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()
