"""``python -m bench``: every scenario, or some of them, side by side in one run."""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import msgspec

from bench import bubbles, calls, channel, filter_cost, footprint, profile, report, routing_cost, transports
from bench.load import LoadFailed
from bench.product import NotReady
from bench.rounds import Outcome, Setting
from bench.subject import DRIVER_CORE, SUBJECT_CORE, Program, Subject

SCENARIOS: dict[str, Callable[[Setting], Iterator[Outcome]]] = {
    "hit": calls.cache_hit,
    "miss": calls.miss,
    "stream": calls.streams,
    "filter": filter_cost.filter_cost,
    "routing": routing_cost.routing_cost,
    "transport": transports.transports,
    "callback": channel.callbacks,
    "way": channel.whole_way,
    "ack": channel.acknowledgement,
    "bubbles": bubbles.bubbles,
    "idle": footprint.footprint,
    "silent": footprint.silent_streams,
}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="one scenario; may be repeated")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--seconds", type=float, default=1.5, help="the window of one measurement (default: 1.5)")
    parser.add_argument("--quick", action="store_true", help="one short round of each: shows that all of it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes every single result as well")
    parser.add_argument("--profile", choices=profile.LOADS, help="samples the product under one load instead")
    return parser.parse_args()


def _conditions() -> dict[str, object]:
    return {
        "grpcio": grpc.__version__,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "subject_core": SUBJECT_CORE,
        "driver_core": DRIVER_CORE,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _run(options: argparse.Namespace, setting: Setting) -> int:
    outcomes: list[Outcome] = []
    failed = 0
    print(report.HEAD)
    for name in options.only or SCENARIOS:
        try:
            for outcome in SCENARIOS[name](setting):
                outcomes.append(outcome)
                print("\r", end="", file=sys.stderr)
                print("\n".join(report.lines(outcome)), flush=True)
        except (LoadFailed, NotReady) as error:
            failed += 1
            print(f"\n{name}: {type(error).__name__}: {error}", file=sys.stderr)
    print(report.LEGEND)
    if options.json:
        options.json.write_bytes(msgspec.json.encode({"conditions": _conditions(), "outcomes": outcomes}))
    return 1 if failed else 0


def main() -> int:
    options = _parse()
    rounds, seconds, scale = (1, 0.3, 0.05) if options.quick else (options.rounds, options.seconds, 1.0)
    upstream = Subject("upstream", Program("bench.upstream"))
    wecom = Subject("wecom", Program("bench.wecom"))
    try:
        with upstream.started(core=DRIVER_CORE) as model, wecom.started(core=DRIVER_CORE) as api:
            setting = Setting(rounds, seconds, scale, model.addresses["http"], api.addresses["http"])
            if options.profile:
                profile.run(options.profile, setting)
                return 0
            return _run(options, setting)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
