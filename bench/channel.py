"""What people in WeCom notice: callbacks, the way to the reply, and the acknowledgement under load."""

from collections.abc import Iterator

from bench import jobs, load
from bench.product import Product, door
from bench.rounds import Comparison, Contender, Figure, Measured, Outcome, Setting, interleave, median
from bench.subject import Program, Running, Subject
from bench.wecom import TOKENS

_CALLBACKS = 3000
_WAYS = 1500
_CONCURRENCY = 32
_RATE = 50.0
_STREAMS = 50


def bare_handler() -> Subject:
    """Verifies and decrypts, and nothing else."""
    known = door("")
    arguments = ("--corp-id", known.corp_id, "--token", known.token, "--encoding-aes-key", known.encoding_aes_key)
    return Subject("bare handler", Program("bench.baselines.callback", arguments))


def callbacks_job(running: Running, count: int, *, events: bool = False, only: str = "") -> jobs.Callbacks:
    """Callbacks of 64 people, whose turns wait in line; so that what is measured is taking them on.

    Args: ``only`` reads the CPU time of one program of the subject alone.
    """
    pids = {name: pid for name, pid in running.pids.items() if not only or name == only}
    return jobs.Callbacks(
        pids=pids, seconds=60, concurrency=_CONCURRENCY, door=door(running.addresses["http"]), count=count,
        events=events, people=0 if events else 64,
    )  # fmt: skip


def whole_way_job(running: Running, setting: Setting) -> jobs.WholeWay:
    """Distinct questions of distinct people."""
    return jobs.WholeWay(
        pids=dict(running.pids),
        seconds=60,
        concurrency=_CONCURRENCY,
        door=door(running.addresses["http"]),
        count=setting.number(_WAYS),
        wecom=setting.wecom,
    )


def callbacks(setting: Setting) -> Iterator[Outcome]:
    """Callbacks a second against a bare handler: all of the product on one core, and the adapter alone."""
    count = setting.number(_CALLBACKS)

    def durable() -> jobs.Result:
        with Product(upstream=setting.upstream, wecom=setting.wecom, app_assistant="thinking").started() as both:
            return load.run(callbacks_job(both, count))

    alone_product = Product(upstream=setting.upstream, wecom=setting.wecom, app_assistant="thinking")
    with bare_handler().started() as bare, alone_product.started() as idle:
        contenders: dict[str, Contender] = {
            "bare handler": lambda: load.run(callbacks_job(bare, count)),
            "product": durable,
            "adapter, events": lambda: load.run(callbacks_job(idle, count, events=True, only="adapter")),
        }
        results = interleave(contenders, setting.rounds)
    measured = Measured("callback", results)
    yield Comparison(scenario="callback, stored durably", measured=measured, baseline="bare handler", aim=0.5)
    yield Comparison(
        scenario="… an event nobody answers", measured=measured, baseline="bare handler", subject="adapter, events"
    )
    for name in ("adapter", "server"):
        each = median([result.cpu[name] / result.count for result in results["product"]])
        yield Figure(scenario="callback, stored durably", name=f"CPU of the {name}", value=each * 1e6, unit="µs")


def whole_way(setting: Setting) -> Iterator[Outcome]:
    """From callback to ``message/send``, everything durable, server and adapter on one core."""
    with Product(upstream=setting.upstream, wecom=setting.wecom).started() as product:
        results = interleave({"product": lambda: load.run(whole_way_job(product, setting))}, setting.rounds)["product"]
    rate = median([result.rate for result in results])
    yield Figure(scenario="whole way", name="callback → message/send", value=rate, unit="/s", aim=400, at_least=True)
    for name in ("adapter", "server"):
        each = median([result.cpu[name] / result.count for result in results])
        yield Figure(scenario="whole way", name=f"CPU of the {name}", value=each * 1e6, unit="µs a message")


def acknowledgement(setting: Setting) -> Iterator[Outcome]:
    """How long WeCom waits for its 200, with 50 callbacks a second beside 50 running streams."""
    seconds = 3 * setting.seconds

    def one() -> jobs.Result:
        return load.run(
            jobs.Acknowledge(
                pids=dict(product.pids),
                seconds=seconds,
                concurrency=setting.number(_STREAMS),
                door=door(product.addresses["http"]),
                rate=_RATE,
                target=product.addresses["grpc"],
                assistant="assistants/talking",
                answers=jobs.Answers(TOKENS, completed=True),
            )
        )

    with Product(upstream=setting.upstream, wecom=setting.wecom).started() as product:
        results = interleave({"product": one}, setting.rounds)["product"]
    for name, aim in (("mean", 50.0), ("p50", None), ("p99", 1000.0), ("max", None)):
        value = median([result.latencies[name] for result in results]) * 1e3
        yield Figure(scenario="acknowledgement", name=name, value=value, unit="ms", aim=aim)
    busy = median([sum(result.cpu.values()) / result.seconds for result in results])
    yield Figure(scenario="acknowledgement", name="share of the core", value=busy * 100, unit="%")
