"""Where the time of the product goes under one load: by stage, by line, by function."""

import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from bench import calls, channel, jobs, load, proc
from bench.product import Product
from bench.rounds import Setting
from bench.sampler import Place, Samples
from bench.subject import ROOT, Running

_SECONDS = 8.0
_LINES = 28
Stacks = list[tuple[tuple[Place, ...], int]]
_OWN = ("server/", "adapter/", "program/", "clients/")


def _seconds(setting: Setting) -> float:
    return max(1.0, _SECONDS * setting.scale)


LOADS: dict[str, Callable[[Running, Setting], jobs.Job]] = {
    "hit": lambda running, setting: calls.cache_hit_job(running, _seconds(setting)),
    "miss": lambda running, setting: calls.miss_job(running, _seconds(setting)),
    "stream": lambda running, setting: calls.stream_job(running, _seconds(setting), 64, "whole"),
    "long": lambda running, setting: calls.stream_job(running, _seconds(setting), 500, "long"),
    "paced": lambda running, setting: calls.stream_job(running, _seconds(setting), 64, "paced"),
    "callback": lambda running, setting: channel.callbacks_job(running, setting.number(8000)),
    "way": lambda running, setting: msgspec.structs.replace(
        channel.whole_way_job(running, setting), count=setting.number(4000)
    ),
}
_WITH_ADAPTER = {"callback": "thinking", "way": "whole"}


def run(name: str, setting: Setting) -> None:
    """Prints where the time goes under the load ``name``."""
    with tempfile.TemporaryDirectory(prefix="weconverse-profile-") as folder:
        product = Product(
            upstream=setting.upstream,
            wecom=setting.wecom if name in _WITH_ADAPTER else "",
            app_assistant=_WITH_ADAPTER.get(name, "whole"),
            wrapper=lambda program: ("bench.sampler", str(Path(folder) / program)),
        )
        with product.started() as running:
            before = {program: proc.cpu_of_threads(pid) for program, pid in running.pids.items()}
            _signal(running, signal.SIGUSR1)
            result = load.run(LOADS[name](running, setting))
            threads = {program: _since(before[program], pid) for program, pid in running.pids.items()}
            _signal(running, signal.SIGUSR2)
            samples = {program: _samples(Path(folder) / program) for program in running.pids}
    print(f"{name}: {result.rate:,.0f} /s while sampled, {result.cpu_each * 1e6:,.0f} µs of CPU each\n")
    for program, found in samples.items():
        print(f"== {program}")
        _print_threads(found, threads[program])
        _print_stacks(found.stacks)


def _signal(running: Running, number: signal.Signals) -> None:
    for pid in running.pids.values():
        os.kill(pid, number)


def _since(before: Mapping[int, float], pid: int) -> dict[int, float]:
    return {thread: spent - before.get(thread, 0.0) for thread, spent in proc.cpu_of_threads(pid).items()}


def _samples(file: Path) -> Samples:
    deadline = time.monotonic() + 10
    while not file.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the sampled program wrote nothing")
        time.sleep(0.05)
    return msgspec.json.decode(file.read_bytes(), type=Samples)


def place_name(file: str) -> str:
    """A path as a reader knows it: from the root of the repository, or from the library's folder."""
    _, found, inside = file.partition("site-packages/")
    if found:
        return inside
    _, found, inside = file.partition("/lib/python3.11/")
    return inside if found else file.removeprefix(f"{ROOT}/")


def stage(file: str) -> str:
    """The room or the library that a file belongs to."""
    path = place_name(file)
    parts = path.split("/")
    return "/".join(parts[:2]).removesuffix(".py") if path.startswith(_OWN) else parts[0].removesuffix(".py")


def _print_threads(samples: Samples, spent: Mapping[int, float]) -> None:
    total = sum(spent.values()) or 1
    for thread, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        if seconds / total >= 0.005:
            print(f"   {seconds / total:6.1%}  of CPU time in thread {samples.threads.get(thread, 'of a library')}")


def _print_stacks(stacks: Stacks) -> None:
    total = sum(count for _, count in stacks) or 1
    print(f"-- {total} samples of the main thread; shares of that thread")
    for title, counted in (
        ("stage, by the innermost frame", _by_stage(stacks)),
        ("innermost line of our own, with what it calls in libraries", _by_own_line(stacks)),
        ("function of our own, with everything below", _by_function(stacks)),
    ):
        print(f"-- {title}")
        for name, count in counted.most_common(_LINES):
            if count / total >= 0.005:
                print(f"   {count / total:6.1%}  {name}")
    print()


def _by_stage(stacks: Stacks) -> Counter[str]:
    counted: Counter[str] = Counter()
    for stack, count in stacks:
        counted[stage(stack[0][0])] += count
    return counted


def _by_own_line(stacks: Stacks) -> Counter[str]:
    counted: Counter[str] = Counter()
    for stack, count in stacks:
        own = next((place for place in stack if place_name(place[0]).startswith(_OWN)), None)
        # Every stack ends in our own __main__: the loop itself, and what it calls without a frame of ours.
        if own is None or "run.py" in own[0] or "__main__" in own[0]:
            inner = stack[0]
            counted[f"(loop and gRPC core) {place_name(inner[0])}:{inner[2]} {inner[1]}"] += count
        else:
            counted[f"{place_name(own[0])}:{own[2]} {own[1]}"] += count
    return counted


def _by_function(stacks: Stacks) -> Counter[str]:
    counted: Counter[str] = Counter()
    for stack, count in stacks:
        for file, function in {(place[0], place[1]) for place in stack}:
            if place_name(file).startswith(_OWN):
                counted[f"{place_name(file)} {function}"] += count
    return counted
