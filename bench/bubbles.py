"""A thousand answers that grow at the same time over the one connection that a bot has."""

from collections.abc import Iterator

from bench import bot_platform, jobs, load
from bench.product import Product
from bench.rounds import Comparison, Figure, Measured, Outcome, Setting, interleave, median
from bench.subject import DRIVER_CORE, Program, Running, Subject

_PEOPLE = 1000
_GAP = 0.5
"""Seconds between two tokens, as of the assistant ``growing``."""
_ROUNDS = 3
"""Each begins with programs of its own, and lets a thousand answers begin to grow."""


def _platform() -> Subject:
    return Subject("platform", Program("bench.bot_platform"))


def _waiting_bot(platform: Running) -> Subject:
    arguments = ("--platform", platform.addresses["http"], "--gap", str(_GAP))
    return Subject("waits globally", Program("bench.baselines.waiting_bot", arguments))


def bubbles(setting: Setting) -> Iterator[Outcome]:
    """Frames a second, against a client that waits for each acknowledgement before it sends anything else."""

    def job(platform: Running, subject: Running) -> jobs.Result:
        return load.run(
            jobs.Bubbles(
                pids=dict(subject.pids),
                seconds=max(2 * _GAP, 4 * setting.seconds),
                concurrency=setting.number(_PEOPLE),
                platform=platform.addresses["http"],
            )
        )

    def product() -> jobs.Result:
        with _platform().started(core=DRIVER_CORE) as platform:
            subject = Product(upstream=setting.upstream, wecom=setting.wecom, bot=platform.addresses["http"])
            with subject.started() as both:
                return job(platform, both)

    def waiting() -> jobs.Result:
        with _platform().started(core=DRIVER_CORE) as platform, _waiting_bot(platform).started() as bot:
            return job(platform, bot)

    results = interleave({"product": product, "waits globally": waiting}, min(setting.rounds, _ROUNDS))
    measured = Measured("frame", results)
    name = f"{setting.number(_PEOPLE)} growing answers"
    yield Comparison(scenario=name, measured=measured, baseline="waits globally", aim=50)
    for program in ("adapter", "server"):
        share = median([result.cpu[program] / result.seconds for result in results["product"]])
        yield Figure(scenario=name, name=f"share of the core: {program}", value=share * 100, unit="%")
    yield Figure(
        scenario=name, name="acknowledgement", value=bot_platform.ACK_SECONDS * 1e3, unit="ms", note="as WeCom's"
    )
