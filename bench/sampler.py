"""Samples a program from within: ``python -m bench.sampler FILE MODULE ARGUMENTS``.

Runs ``python -m MODULE`` with a timer on the CPU time of its main thread. SIGUSR1 begins,
SIGUSR2 ends and writes ``FILE``: each stack that was seen, innermost frame first, with the
number of times. Only CPU time counts, so waiting does not show. A sample is taken at the
next bytecode, so C code shows at the line that called it; frames of Cython do not show.
"""

import ctypes
import runpy
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType

import msgspec

INTERVAL = 0.002
"""Seconds of CPU time between two samples; the kernel may round it up to its tick."""
_CLOCK_THREAD_CPUTIME_ID = 3
_FRAMES = 60

Place = tuple[str, str, int]
"""File, function, line (0 where the interpreter knows none)."""


class Samples(msgspec.Struct):
    """What is written at the end."""

    stacks: list[tuple[tuple[Place, ...], int]]
    threads: dict[int, str]
    """Names of the threads that Python knows, by the number the kernel gives them."""


class _Event(ctypes.Structure):
    # struct sigevent: SIGEV_SIGNAL (0) sends ``signo`` to the process.
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_char * 48),
    )


class _Sampler:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._stacks: Counter[tuple[Place, ...]] = Counter()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = ctypes.c_void_p()
        event = _Event(None, signal.SIGPROF, 0, b"")
        clock = ctypes.c_int(_CLOCK_THREAD_CPUTIME_ID)
        if self._libc.timer_create(clock, ctypes.byref(event), ctypes.byref(self._timer)):
            raise OSError(ctypes.get_errno(), "timer_create")

    def sample(self, _number: int, frame: FrameType | None) -> None:
        stack: list[Place] = []
        while frame is not None and len(stack) < _FRAMES:
            code = frame.f_code
            stack.append((code.co_filename, code.co_qualname, frame.f_lineno or 0))
            frame = frame.f_back
        self._stacks[tuple(stack)] += 1

    def begin(self, _number: int, _frame: FrameType | None) -> None:
        self._set(round(INTERVAL * 1e9))

    def end(self, _number: int, _frame: FrameType | None) -> None:
        self._set(0)
        names = {thread.native_id or 0: thread.name for thread in threading.enumerate()}
        whole = self._file.with_suffix(".part")
        whole.write_bytes(msgspec.json.encode(Samples(list(self._stacks.items()), names)))
        whole.rename(self._file)  # in one step: whoever waits for the file finds all of it

    def _set(self, nanoseconds: int) -> None:
        interval = (ctypes.c_long * 4)(0, nanoseconds, 0, nanoseconds)
        if self._libc.timer_settime(self._timer, 0, ctypes.byref(interval), None):
            raise OSError(ctypes.get_errno(), "timer_settime")


def main() -> None:
    file, module, *arguments = sys.argv[1:]
    sampler = _Sampler(Path(file))
    signal.signal(signal.SIGPROF, sampler.sample)
    signal.signal(signal.SIGUSR1, sampler.begin)
    signal.signal(signal.SIGUSR2, sampler.end)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
