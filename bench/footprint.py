"""What the product costs while it does nothing: memory, the start, and silent streams."""

import time
from collections.abc import Iterator

from bench import jobs, load
from bench.product import Product
from bench.rounds import Figure, Outcome, Setting, median

_MIB = 1024 * 1024
_STREAMS = 2000
_QUIET_SECONDS = 1.0


def footprint(setting: Setting) -> Iterator[Outcome]:
    """Idle memory of server and adapter, and the time from start to ready."""
    starts, memory = [], []
    for _ in range(setting.rounds):
        begin = time.monotonic()
        with Product(upstream=setting.upstream, wecom=setting.wecom).started() as product:
            starts.append(time.monotonic() - begin)
            time.sleep(_QUIET_SECONDS)
            memory.append(product.resident_bytes() / _MIB)
    yield Figure(scenario="idle", name="memory, server + adapter", value=median(memory), unit="MiB", aim=150)
    yield Figure(
        scenario="idle", name="start to ready, one after the other", value=median(starts), unit="s", aim=2,
        note="the server, and then the adapter, on one core",
    )  # fmt: skip


def silent_streams(setting: Setting) -> Iterator[Outcome]:
    """What 2,000 open and silent streams cost the server in memory."""
    count = setting.number(_STREAMS)
    for kind, name in (("attach", "channel instances attached"), ("follow", "listeners of running turns")):
        with Product(upstream=setting.upstream).started() as product:
            result = load.run(
                jobs.Hold(
                    pids=dict(product.pids),
                    seconds=60,
                    concurrency=count,
                    target=product.addresses["grpc"],
                    kind=kind,
                    assistant="assistants/silent",
                )
            )
        grown = (result.bytes_after - result.bytes_before) / _MIB
        yield Figure(scenario="silent streams", name=f"{count} {name}", value=grown, unit="MiB", aim=100)
