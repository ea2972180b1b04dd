"""Compares releases of grpcio: the evidence behind ``docs/adr/0002-grpcio-version.md``.

Give it the interpreters of virtual environments, each with another grpcio and with
``protobuf`` and ``googleapis-common-protos`` of the lock file::

    python -m bench.grpcio_versions /tmp/a/bin/python /tmp/b/bin/python

For each it starts a bare asyncio server and a client, both on that release, and measures in
interleaved rounds of random order: unary calls, streams of 64 messages, whether a stream that
was left early is cancelled, and whether ``maximum_concurrent_rpcs`` holds in every wave.

The file stands alone, because the environments hold nothing else of this repository.
"""

import argparse
import asyncio
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

ROOT = Path(__file__).resolve().parents[1]
MESSAGES = 64
_SERVICE = "weconverse.v1.ConversationService"
_OPTIONS = [("grpc.so_reuseport", 0)]
_LONGEST_JOB = 60.0


def _stubs() -> Any:
    sys.path.insert(0, str(ROOT / "clients"))
    from weconverse.v1 import conversation_pb2

    return conversation_pb2


def _pin(core: int) -> None:
    if core in os.sched_getaffinity(0) and len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {core})


class _Echo:
    """The server's side: an echo, a stream, and a stream that notes whether it was cancelled."""

    def __init__(self, pb: Any) -> None:
        self._pb = pb
        self._delta = pb.StreamConverseResponse(sequence=1, delta=pb.TextDelta(text="企业服务"))
        self.cancelled_at = 0.0

    async def converse(self, request: Any, _context: Any) -> Any:
        return self._pb.ConverseResponse(turn=self._pb.Turn(name=request.conversation, reply=request.input))

    async def stream(self, _request: Any, context: Any) -> None:
        for _ in range(MESSAGES):
            await context.write(self._delta)

    async def endless(self, _request: Any, context: Any) -> None:
        try:
            while True:
                await context.write(self._delta)
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            self.cancelled_at = time.time()
            raise

    async def slow(self, request: Any, _context: Any) -> Any:
        await asyncio.sleep(0.2)
        return self._pb.ConverseResponse(turn=self._pb.Turn(name=request.conversation))

    async def told(self, _request: Any, _context: Any) -> Any:
        return self._pb.GetTurnRequest(name=repr(self.cancelled_at))

    def handlers(self) -> Any:
        ask = self._pb.ConverseRequest.FromString
        send = self._pb.ConverseResponse.SerializeToString
        event = self._pb.StreamConverseResponse.SerializeToString
        return grpc.method_handlers_generic_handler(
            _SERVICE,
            {
                "Converse": grpc.unary_unary_rpc_method_handler(self.converse, ask, send),
                "Slow": grpc.unary_unary_rpc_method_handler(self.slow, ask, send),
                "Stream": grpc.unary_stream_rpc_method_handler(self.stream, ask, event),
                "Endless": grpc.unary_stream_rpc_method_handler(self.endless, ask, event),
                "Told": grpc.unary_unary_rpc_method_handler(self.told, ask, self._pb.GetTurnRequest.SerializeToString),
            },
        )


async def _serve() -> None:
    echo = _Echo(_stubs())
    open_server = grpc.aio.server(options=_OPTIONS)
    limited = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=2)
    ports = []
    for server in (open_server, limited):
        server.add_generic_rpc_handlers((echo.handlers(),))
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
    print(json.dumps(ports), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await open_server.stop(0)
    await limited.stop(0)


class _Client:
    def __init__(self, pb: Any, channels: list[Any], limited: Any) -> None:
        self._pb = pb
        self._channels = channels
        self._limited = limited
        self._ask = pb.ConverseRequest(
            conversation="conversations/bench", input=pb.Content(parts=[pb.Part(text="报销流程是什么?" * 8)])
        )

    def _method(self, channel: Any, name: str, reply: Any, *, stream: bool = False) -> Any:
        make = channel.unary_stream if stream else channel.unary_unary
        return make(
            f"/{_SERVICE}/{name}",
            request_serializer=self._pb.ConverseRequest.SerializeToString,
            response_deserializer=reply.FromString,
        )

    async def unary(self, channel: Any) -> None:
        call = self._method(channel, "Converse", self._pb.ConverseResponse)
        answer = await call(self._ask, timeout=30)
        if answer.turn.reply != self._ask.input:
            raise AssertionError("the echo differs")

    async def stream(self, channel: Any) -> None:
        call = self._method(channel, "Stream", self._pb.StreamConverseResponse, stream=True)
        count = 0
        async for _ in call(self._ask, timeout=30):
            count += 1
        if count != MESSAGES:
            raise AssertionError(f"{count} of {MESSAGES} messages")

    async def load(self, one: Callable[[Any], Awaitable[None]], seconds: float, concurrency: int) -> dict[str, float]:
        done = 0
        end = time.perf_counter() + seconds

        async def worker(number: int) -> None:
            nonlocal done
            while time.perf_counter() < end:
                await one(self._channels[number % len(self._channels)])
                done += 1

        begin, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker(number) for number in range(concurrency)))
        return {"count": done, "seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}

    async def _leave_early(self) -> float:
        call = self._method(self._channels[0], "Endless", self._pb.StreamConverseResponse, stream=True)
        count = 0
        async for _ in call(self._ask, timeout=30):
            count += 1
            if count == 3:
                break
        return time.time()

    async def abandon(self) -> float | None:
        """Seconds until the server knew of a stream that was left early; ``None`` if not within 2."""
        left = await self._leave_early()
        gc.collect()
        await asyncio.sleep(2.0)
        told = self._method(self._channels[0], "Told", self._pb.GetTurnRequest)
        at = float((await told(self._ask, timeout=5)).name)
        return max(0.0, at - left) if at else None

    async def waves(self) -> list[int]:
        """How many of 10 calls at once pass a limit of 2, five times over."""
        slow = self._method(self._limited, "Slow", self._pb.ConverseResponse)
        passed = []
        for _ in range(5):
            results = await asyncio.gather(*(slow(self._ask, timeout=5) for _ in range(10)), return_exceptions=True)
            passed.append(sum(not isinstance(result, BaseException) for result in results))
        return passed


async def _drive(job: str, seconds: float, ports: list[int]) -> None:
    channels = [
        grpc.aio.insecure_channel(f"127.0.0.1:{ports[0]}", options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(4)
    ]
    limited = grpc.aio.insecure_channel(f"127.0.0.1:{ports[1]}")
    client = _Client(_stubs(), channels, limited)
    try:
        if job == "unary":
            result: Any = await client.load(client.unary, seconds, 64)
        elif job == "stream":
            result = await client.load(client.stream, seconds, 32)
        else:
            result = {"abandon": await client.abandon(), "waves": await client.waves(), "version": grpc.__version__}
        print(json.dumps(result), flush=True)
    finally:
        for channel in (*channels, limited):
            await channel.close()


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _measure(interpreter: str, job: str, seconds: float) -> dict[str, Any]:
    base = [interpreter, __file__]
    environment = {**os.environ, "GRPC_VERBOSITY": "ERROR"}
    server = subprocess.Popen([*base, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    try:
        assert server.stdout is not None
        ports = server.stdout.readline().decode()
        before = _cpu(server.pid)
        client = subprocess.run(
            [*base, "--drive", job, "--seconds", str(seconds), "--ports", ports],
            stdout=subprocess.PIPE,
            env=environment,
            timeout=_LONGEST_JOB,
            check=True,
        )
        result: dict[str, Any] = json.loads(client.stdout)
        result["server_cpu"] = _cpu(server.pid) - before
        return result
    finally:
        assert server.stdin is not None
        server.stdin.close()
        server.wait(10)


def _rounds(interpreters: list[str], rounds: int, seconds: float) -> dict[str, dict[str, list[dict[str, Any]]]]:
    results: dict[str, dict[str, list[dict[str, Any]]]] = {name: {"unary": [], "stream": []} for name in interpreters}
    for number in range(rounds):
        work = [(name, job) for name in interpreters for job in ("unary", "stream")]
        random.shuffle(work)
        for name, job in work:
            results[name][job].append(_measure(name, job, seconds))
        print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    return results


def _median(results: list[dict[str, Any]], key: str, per: str) -> float:
    return float(statistics.median(result[key] / result[per] for result in results))


def _print(interpreters: list[str], results: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    print("| grpcio | unary /s | server µs | client µs | streams /s | server µs a message | left early | waves of 2 |")
    print("|---|---|---|---|---|---|---|---|")
    for name in interpreters:
        unary, stream = results[name]["unary"], results[name]["stream"]
        probe = _measure(name, "probe", 0)
        told = "never told" if probe["abandon"] is None else f"told in {probe['abandon'] * 1e3:.0f} ms"
        print(
            f"| {probe['version']} | {_median(unary, 'count', 'seconds'):,.0f} "
            f"| {_median(unary, 'server_cpu', 'count') * 1e6:.0f} | {_median(unary, 'cpu', 'count') * 1e6:.0f} "
            f"| {_median(stream, 'count', 'seconds'):,.0f} "
            f"| {_median(stream, 'server_cpu', 'count') * 1e6 / MESSAGES:.1f} | {told} | {probe['waves']} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("interpreters", nargs="*", help="python programs, each of another environment")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--drive", help=argparse.SUPPRESS)
    parser.add_argument("--ports", default="[]", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        _pin(0)
        asyncio.run(_serve())
    elif options.drive:
        _pin(1)
        asyncio.run(_drive(options.drive, options.seconds, json.loads(options.ports)))
    else:
        _print(options.interpreters, _rounds(options.interpreters, options.rounds, options.seconds))


if __name__ == "__main__":
    main()
