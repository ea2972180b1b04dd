"""What grpcio does, where this project leans on it.

Each test is a fact about the installed grpcio and not about our code: an upgrade that
changes one of them fails here, under its name, instead of somewhere in the night.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc

from server.rpc.options import server_options

Behaviour = Callable[[Any, Any], Any]


@asynccontextmanager
async def serving(
    unary: Behaviour | None = None,
    stream: Behaviour | None = None,
    both: Behaviour | None = None,
    **server_arguments: Any,
) -> AsyncIterator[tuple[grpc.aio.Channel, grpc.aio.Server]]:
    handlers: dict[str, Any] = {}
    if unary is not None:
        handlers["Unary"] = grpc.unary_unary_rpc_method_handler(unary)
    if stream is not None:
        handlers["Stream"] = grpc.unary_stream_rpc_method_handler(stream)
    if both is not None:
        handlers["Both"] = grpc.stream_stream_rpc_method_handler(both)
    server = grpc.aio.server(**server_arguments)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel, server
    finally:
        await server.stop(0)


async def code_of(call: Awaitable[Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


async def within(event: asyncio.Event, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        await event.wait()


# --- cancellation -------------------------------------------------------------------------


async def test_a_stray_cancelled_error_sends_nothing_to_the_caller() -> None:
    async def stray(request: bytes, context: Any) -> bytes:
        raise asyncio.CancelledError

    async with serving(unary=stray) as (channel, _):
        assert await code_of(channel.unary_unary("/t.T/Unary")(b"", timeout=0.3)) is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_only_a_cancelled_call_raises_the_count_of_its_task() -> None:
    counts: list[int] = []
    ended = asyncio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        child = asyncio.create_task(asyncio.sleep(60))
        child.cancel()
        try:
            await child
        except asyncio.CancelledError:
            counts.append(asyncio.current_task().cancelling())  # type: ignore[union-attr]
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            counts.append(asyncio.current_task().cancelling())  # type: ignore[union-attr]
            ended.set()
            raise
        return b""

    async with serving(unary=handler) as (channel, _):
        assert await code_of(channel.unary_unary("/t.T/Unary")(b"", timeout=0.2)) is grpc.StatusCode.DEADLINE_EXCEEDED
        await within(ended)
    assert counts == [0, 1]


async def test_a_deadline_arrives_as_a_cancellation_without_time_left() -> None:
    left: list[float] = []
    ended = asyncio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        try:
            await asyncio.sleep(60)
        finally:
            left.append(context.time_remaining())
            ended.set()
        return b""

    async with serving(unary=handler) as (channel, _):
        await code_of(channel.unary_unary("/t.T/Unary")(b"", timeout=0.2))
        await within(ended)
    assert left == [0]


async def test_without_a_deadline_no_time_remains_to_be_told() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        return repr(context.time_remaining()).encode()

    async with serving(unary=handler) as (channel, _):
        assert await channel.unary_unary("/t.T/Unary")(b"") == b"None"


async def test_a_writing_coroutine_is_cancelled_in_its_own_task_and_context() -> None:
    mark: ContextVar[str] = ContextVar("mark", default="")
    seen: list[tuple[bool, str]] = []
    ended = asyncio.Event()

    async def handler(request: bytes, context: Any) -> None:
        task = asyncio.current_task()
        mark.set("mine")
        try:
            await context.write(b"1")
            await asyncio.sleep(60)
        finally:
            seen.append((asyncio.current_task() is task, mark.get()))
            ended.set()

    async with serving(stream=handler) as (channel, _):
        call = channel.unary_stream("/t.T/Stream")(b"")
        assert await call.read() == b"1"
        call.cancel()
        await within(ended)
    assert seen == [(True, "mine")]


async def test_leaving_a_stream_must_be_said() -> None:
    """The client's side of it: ``cancel`` is what tells the server, and it does so at once."""
    ended = asyncio.Event()

    async def handler(request: bytes, context: Any) -> None:
        try:
            await context.write(b"1")
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with serving(stream=handler) as (channel, _):
        call = channel.unary_stream("/t.T/Stream")(b"")
        await call.read()
        assert not ended.is_set()
        call.cancel()
        await within(ended, 1)
        del call
        gc.collect()


async def test_a_status_can_be_sent_while_a_read_is_pending() -> None:
    async def handler(requests: Any, context: Any) -> None:
        reading = asyncio.create_task(anext(aiter(requests)))
        await context.write(b"1")
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    async with serving(both=handler) as (channel, _):
        call = channel.stream_stream("/t.T/Both")()
        assert await call.read() == b"1"
        assert await code_of(call.read()) is grpc.StatusCode.UNAVAILABLE


# --- errors and interceptors ---------------------------------------------------------------


async def test_an_uncaught_exception_tells_the_caller_its_text() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        raise ValueError("secret path")

    async with serving(unary=handler) as (channel, _):
        with pytest.raises(grpc.aio.AioRpcError, match="secret path"):
            await channel.unary_unary("/t.T/Unary")(b"")


async def test_an_abort_is_an_exception_of_its_own() -> None:
    caught: list[type[BaseException]] = []
    ended = asyncio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        try:
            await context.abort(grpc.StatusCode.NOT_FOUND, "无")
        except Exception as error:
            caught.append(type(error))
            ended.set()
            raise
        return b""

    async with serving(unary=handler) as (channel, _):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/t.T/Unary")(b"")
        await within(ended)  # the caller may hear of it first
    assert caught == [grpc.aio.AbortError]
    assert raised.value.details() == "无"


async def test_an_interceptor_sees_the_lookup_and_may_keep_what_it_made() -> None:
    looked_up: list[str] = []

    class Keeping(grpc.aio.ServerInterceptor):
        kept: Any = None

        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            looked_up.append(details.method)
            self.kept = self.kept or await continuation(details)
            return self.kept

    async def handler(request: bytes, context: Any) -> bytes:
        return request

    async with serving(unary=handler, interceptors=[Keeping()]) as (channel, _):
        for body in (b"1", b"2"):
            assert await channel.unary_unary("/t.T/Unary")(body) == body
    assert looked_up == ["/t.T/Unary"] * 2


async def test_each_call_has_a_task_and_a_context_of_its_own() -> None:
    mark: ContextVar[int] = ContextVar("mark", default=0)

    async def handler(request: bytes, context: Any) -> bytes:
        before = mark.get()
        mark.set(1)
        return str(before).encode()

    async with serving(unary=handler) as (channel, _):
        assert [await channel.unary_unary("/t.T/Unary")(b"") for _ in range(3)] == [b"0"] * 3


async def test_metadata_must_be_ascii() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        return b""

    async with serving(unary=handler) as (channel, _):
        with pytest.raises(grpc.aio.InternalError, match="INVALID_METADATA"):
            await channel.unary_unary("/t.T/Unary")(b"", metadata=(("name", "张三"),))


# --- running --------------------------------------------------------------------------------


async def test_the_built_in_fuse_refuses_but_is_no_limit_to_lean_on() -> None:
    """Some releases (1.78 among them) grow laxer with each refusal; none may become stricter.

    The limit that holds is our own gate (``interceptors/budget.py``), tested in waves.
    """
    go_on = asyncio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        await go_on.wait()
        return b""

    async with serving(unary=handler, maximum_concurrent_rpcs=2) as (channel, _):
        for wave in range(5):
            go_on.clear()
            calls = [asyncio.ensure_future(code_or_ok(channel)) for _ in range(10)]
            if wave == 0:
                async with asyncio.timeout(5):
                    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            go_on.set()
            codes = await asyncio.gather(*calls)
            assert set(codes) <= {"OK", "RESOURCE_EXHAUSTED"}
            assert codes.count("OK") >= 2
            assert wave > 0 or "RESOURCE_EXHAUSTED" in codes


async def code_or_ok(channel: grpc.aio.Channel) -> str:
    try:
        await channel.unary_unary("/t.T/Unary")(b"", timeout=10)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def test_a_port_is_shared_unless_told_otherwise() -> None:
    servers = [grpc.aio.server(), grpc.aio.server()]
    port = servers[0].add_insecure_port("127.0.0.1:0")
    try:
        assert servers[1].add_insecure_port(f"127.0.0.1:{port}") == port
    finally:
        for server in servers:
            await server.stop(0)


async def test_with_our_options_a_port_is_not_shared() -> None:
    servers = [grpc.aio.server(options=server_options(1.0)) for _ in range(2)]
    port = servers[0].add_insecure_port("127.0.0.1:0")
    try:
        with pytest.raises(RuntimeError):
            servers[1].add_insecure_port(f"127.0.0.1:{port}")
    finally:
        for server in servers:
            await server.stop(0)


async def test_the_names_of_our_options_are_known_to_the_core() -> None:
    """An option that is misspelt is ignored in silence, so the names are looked for in the core itself."""
    binary = Path(cygrpc.__file__).read_bytes()
    for name, _ in server_options(1.0):
        assert name.encode() + b"\0" in binary, name


async def test_a_stop_with_grace_lets_a_call_finish_and_refuses_the_next() -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        arrived.set()
        await go_on.wait()
        return b"done"

    async with serving(unary=handler) as (channel, server):
        call = channel.unary_unary("/t.T/Unary")(b"")
        await within(arrived)
        stop = asyncio.create_task(server.stop(30))
        await asyncio.sleep(0)
        # Mostly the first; a call that arrives between the two steps of stopping is cancelled.
        refused = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        assert await code_of(channel.unary_unary("/t.T/Unary")(b"", timeout=5)) in refused
        go_on.set()
        assert await call == b"done"
        await stop
