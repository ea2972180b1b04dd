"""Calls of internal services: ``Converse`` on a hit and on a miss, and ``StreamConverse``."""

from collections.abc import Iterator
from contextlib import ExitStack

from msgspec.structs import replace

from bench import jobs, load
from bench.product import Product
from bench.rounds import Comparison, Contender, Measured, Outcome, Setting, interleave
from bench.subject import Program, Running, Subject

_UNARY = 64
_STREAMS = 32
HISTORY = 5
"""Rounds that the default assistant remembers."""


def echo() -> Subject:
    return Subject("echo", Program("bench.baselines.echo"))


def relay(upstream: str, model: str) -> Subject:
    return Subject("thin relay", Program("bench.baselines.relay", ("--upstream", upstream, "--model", model)))


def sdk_relay(upstream: str, model: str) -> Subject:
    return Subject("SDK relay", Program("bench.baselines.sdk_relay", ("--upstream", upstream, "--model", model)))


def unary(running: Running, seconds: float, answers: jobs.Answers) -> jobs.Converse:
    """``Converse`` calls, each in a conversation of its own."""
    return jobs.Converse(
        pids=dict(running.pids),
        seconds=seconds,
        concurrency=_UNARY,
        target=running.addresses["grpc"],
        stream=False,
        answers=answers,
        assistant="",
        warmup_seconds=min(0.3, seconds),
    )


def stream(running: Running, seconds: float, answers: jobs.Answers) -> jobs.Converse:
    """``StreamConverse`` calls, each in a conversation of its own."""
    return replace(unary(running, seconds, answers), stream=True, concurrency=_STREAMS)


def cache_hit_job(running: Running, seconds: float, *, bypass_memory: bool = False) -> jobs.Converse:
    """Sixteen questions in ever new conversations: every answer but the first few is in the cache."""
    job = unary(running, seconds, jobs.Answers(64, messages=2))
    return replace(job, assistant="assistants/whole", distinct_questions=16, bypass_memory=bypass_memory)


def miss_job(running: Running, seconds: float) -> jobs.Converse:
    """Distinct questions in conversations with a full memory."""
    job = unary(running, seconds, jobs.Answers(64, messages=2 + 2 * HISTORY))
    return replace(job, assistant="assistants/whole", fresh_conversations=False, warmup_calls=HISTORY + 1)


def stream_job(running: Running, seconds: float, tokens: int, assistant: str) -> jobs.Converse:
    """Distinct questions in ever new conversations."""
    job = stream(running, seconds, jobs.Answers(tokens, messages=2, completed=True))
    return replace(job, assistant=f"assistants/{assistant}")


def cache_hit(setting: Setting) -> Iterator[Outcome]:
    """``Converse`` on a cache hit against a bare echo."""
    with echo().started() as bare, Product(upstream=setting.upstream).started() as product:
        contenders: dict[str, Contender] = {
            "echo": lambda: load.run(unary(bare, setting.seconds, jobs.Answers(64, marked=False))),
            "product": lambda: load.run(cache_hit_job(product, setting.seconds)),
            "no memory": lambda: load.run(cache_hit_job(product, setting.seconds, bypass_memory=True)),
        }
        results = interleave(contenders, setting.rounds)
    measured = Measured("call", results)
    yield Comparison(scenario="Converse, cache hit", measured=measured, baseline="echo", aim=0.6)
    yield Comparison(scenario="… with bypass_memory", measured=measured, baseline="echo", subject="no memory")


def miss(setting: Setting) -> Iterator[Outcome]:
    """``Converse`` on a miss with memory against the thinnest relay."""
    with (
        relay(setting.upstream, "tokens-64").started() as thin,
        Product(upstream=setting.upstream).started() as product,
    ):
        contenders: dict[str, Contender] = {
            "thin relay": lambda: load.run(unary(thin, setting.seconds, jobs.Answers(64, messages=1))),
            "product": lambda: load.run(miss_job(product, setting.seconds)),
        }
        results = interleave(contenders, setting.rounds)
    measured = Measured("call", results)
    yield Comparison(scenario="Converse, miss with memory", measured=measured, baseline="thin relay", aim=0.7)


def streams(setting: Setting) -> Iterator[Outcome]:
    """``StreamConverse`` of 64 and 500 tokens against the thin relay and the SDK relay; and at a pace."""
    with Product(upstream=setting.upstream).started() as product:
        for tokens, assistant in ((64, "whole"), (500, "long")):
            results = _stream_rounds(setting, product, tokens, assistant, f"tokens-{tokens}", sdk=True)
            measured = Measured("stream", results, tokens)
            scenario = f"StreamConverse, {tokens} tokens"
            yield Comparison(scenario=scenario, measured=measured, baseline="thin relay", aim=1.0)
            yield Comparison(scenario="… the same", measured=measured, baseline="SDK relay", aim=5.0)
        results = _stream_rounds(setting, product, 64, "paced", "tokens-64-gap-10", sdk=False)
        measured = Measured("stream", results, 64)
        yield Comparison(scenario="… 64 tokens, one each 10 ms", measured=measured, baseline="thin relay")


def _stream_rounds(
    setting: Setting, product: Running, tokens: int, assistant: str, model: str, *, sdk: bool
) -> dict[str, list[jobs.Result]]:
    answers = jobs.Answers(tokens, messages=1)
    # A paced stream lasts as long as its pace says: short windows would see few of them end.
    seconds = setting.seconds if sdk else max(2.0 * setting.scale, setting.seconds)

    def measure(job: jobs.Converse) -> jobs.Result:
        return load.run(replace(job, concurrency=setting.number(_STREAMS)))

    with ExitStack() as stack:
        baselines = {"thin relay": stack.enter_context(relay(setting.upstream, model).started())}
        if sdk:
            baselines["SDK relay"] = stack.enter_context(sdk_relay(setting.upstream, model).started())
        contenders: dict[str, Contender] = {
            "product": lambda: measure(stream_job(product, seconds, tokens, assistant)),
        }
        for name, running in baselines.items():
            contenders[name] = lambda running=running: measure(stream(running, seconds, answers))  # type: ignore[misc]  # binds the loop's value
        return interleave(contenders, setting.rounds)
