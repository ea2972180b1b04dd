"""The same replies of the same mock, fetched over HTTP and over gRPC: one line of settings apart."""

from collections.abc import Iterator

from msgspec.structs import replace

from bench import calls, load
from bench.product import Product
from bench.rounds import Comparison, Contender, Measured, Outcome, Setting, interleave
from bench.subject import DRIVER_CORE, Program, Subject


def transports(setting: Setting) -> Iterator[Outcome]:
    """``StreamConverse`` over a model that is reached over HTTP, and the same over gRPC."""
    upstream = Subject("provider", Program("bench.provider_upstream"))
    with (
        upstream.started(core=DRIVER_CORE) as provider,
        Product(upstream=setting.upstream, provider=provider.addresses["grpc"]).started() as product,
    ):
        for tokens, assistant in ((64, "paced"), (64, "whole"), (500, "long")):
            # A paced stream lasts as long as its pace says: short windows would see few of them end.
            seconds = max(2.0 * setting.scale, setting.seconds)
            http = replace(calls.stream_job(product, seconds, tokens, assistant), concurrency=setting.number(32))
            grpc = replace(http, assistant=f"assistants/{assistant}-grpc")
            contenders: dict[str, Contender] = {
                "over HTTP": lambda job=http: load.run(job),  # type: ignore[misc]  # binds the loop's value
                "over gRPC": lambda job=grpc: load.run(job),  # type: ignore[misc]  # binds the loop's value
            }
            measured = Measured("stream", interleave(contenders, setting.rounds), tokens)
            yield Comparison(
                scenario=f"a backend over gRPC, {tokens} tokens" + (", one each 10 ms" if assistant == "paced" else ""),
                measured=measured,
                baseline="over HTTP",
                subject="over gRPC",
            )
