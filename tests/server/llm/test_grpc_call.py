"""Calls over gRPC against a server that does what each test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc.error_details_pb2 import ErrorInfo
from structlog.testing import capture_logs

from server.budget import Budget
from server.domain import FinishReason
from server.llm.base import Chunk, ErrorClass, ProviderError
from server.llm.grpc_call import GrpcLine, MessageReader, Method, Shape
from server.settings import ModelSettings
from tests.server.llm.grpc_upstream import Call, GrpcUpstream, Handler, fails, hangs, retry_info, says, serve

KEY = "key-very-secret-0123456789"
TALK = Method("/test.Talk/Stream", StringValue)


def said(text: str) -> StringValue:
    return StringValue(value=text)


END = said("END")


class TalkReader(MessageReader[StringValue]):
    """Every message is text, but for those that say how it ends."""

    def feed(self, message: StringValue) -> None:
        if message.value == "COUNTED":
            self.done = True
        elif message.value == "BROKEN":
            self.fail(ProviderError(ErrorClass.INCOMPLETE, "it says so"))
        elif message.value.startswith("END"):
            self.end(message.value.removeprefix("END") or "stop")
        else:
            self.put(message.value)


@asynccontextmanager
async def line_to(*handlers: Handler, **more: object) -> AsyncIterator[tuple[GrpcLine, GrpcUpstream]]:
    async with serve(*handlers) as upstream:
        line = GrpcLine("m", upstream.target, ModelSettings(**more))  # type: ignore[arg-type]
        try:
            yield line, upstream
        finally:
            await line.aclose()


async def chunks_of(line: GrpcLine, budget: Budget | None = None, method: Method[StringValue] = TALK) -> list[Chunk]:
    metadata = [("authorization", f"Bearer {KEY}")]
    generated = line.generate(
        method, said("问"), TalkReader("m"), budget or Budget(20), key=KEY, metadata=metadata
    )  # fmt: skip
    async with aclosing(generated) as chunks:
        return [chunk async for chunk in chunks]


async def failure(line: GrpcLine, budget: Budget | None = None) -> ProviderError:
    """Why it failed, which must be long before the budget or the whole would end it."""
    async with asyncio.timeout(10):
        with pytest.raises(ProviderError) as caught:
            await chunks_of(line, budget or Budget(900))
    return caught.value


# --- replies --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [Shape.STREAM, Shape.BOTH_STREAM])
async def test_a_reply(shape: Shape) -> None:
    async with line_to(says(said("你"), said("好"), END), extra_headers={"X-Tenant": "t-1"}) as (line, upstream):
        chunks = await chunks_of(line, method=Method(TALK.path, StringValue, shape))
    assert chunks == [Chunk("你", model="m"), Chunk("好"), Chunk(finish=FinishReason.STOP, model="m")]
    [call] = upstream.calls
    assert StringValue.FromString(call.request).value == "问"
    assert call.metadata["authorization"] == f"Bearer {KEY}"
    assert call.metadata["x-tenant"] == "t-1"
    assert call.metadata["user-agent"].startswith("weconverse-server ")


async def test_a_short_reply_is_one_chunk() -> None:
    class Together(TalkReader):
        def feed(self, message: StringValue) -> None:
            for part in message.value.split(" "):
                super().feed(said(part))

    async with (
        line_to(says(said("好 END"))) as (line, _),
        aclosing(line.generate(TALK, said(""), Together("m"), Budget(20))) as generated,
    ):
        chunks = [chunk async for chunk in generated]
    assert chunks == [Chunk("好", "", FinishReason.STOP, model="m")]


async def test_calls_share_one_connection() -> None:
    async with line_to(says(END)) as (line, upstream):
        await asyncio.gather(*(chunks_of(line) for _ in range(5)))
        assert len({call.context.peer() for call in upstream.calls}) == 1


async def test_calls_that_a_connection_does_not_take_get_another_one() -> None:
    count, all_there = 250, asyncio.Event()

    async def handler(call: Call) -> None:
        if len(upstream.calls) == count:
            all_there.set()
        await all_there.wait()
        await call.say(END)

    # As many at a time as servers commonly take on one connection.
    async with serve(handler, options=[("grpc.max_concurrent_streams", 100)]) as upstream:
        line = GrpcLine("m", upstream.target, ModelSettings())
        async with asyncio.timeout(20):
            await asyncio.gather(*(chunks_of(line) for _ in range(count)))
        assert len({call.context.peer() for call in upstream.calls}) == 3
        await line.aclose()


async def test_the_backend_is_told_how_long_it_has() -> None:
    left: list[float] = []

    async def handler(call: Call) -> None:
        left.append(call.context.time_remaining() or 0.0)
        await call.say(END)

    async with line_to(handler, total_seconds=50) as (line, _):
        await chunks_of(line, Budget(9))
        await chunks_of(line, Budget(900))
    # On the wire a time-out has few digits, so it is rounded up.
    assert 0 < left[0] <= 9.5
    assert 9.5 < left[1] <= 51


async def test_an_unknown_finish_reason_is_an_end_and_a_log_line() -> None:
    async with line_to(says(said("好"), said("ENDreason_99"))) as (line, _):
        with capture_logs() as lines:
            chunks = await chunks_of(line)
    assert chunks[-1].finish is FinishReason.STOP
    assert [line["finish_reason"] for line in lines if line["event"] == "llm_finish_reason_unknown"] == ["reason_99"]


# --- what is not a reply ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "handler", [says(said("好")), says(), says(said("好"), b"\xff\xff"), says(said("BROKEN"), END)]
)
async def test_a_reply_without_an_end_is_not_complete(handler: Handler) -> None:
    async with line_to(handler) as (line, _):
        assert (await failure(line)).kind is ErrorClass.INCOMPLETE


async def test_text_before_a_failure_is_handed_out() -> None:
    chunks: list[Chunk] = []
    async with line_to(says(said("好"), said("BROKEN"))) as (line, _):
        with pytest.raises(ProviderError, match="it says so"):
            async with aclosing(line.generate(TALK, said(""), TalkReader("m"), Budget(20))) as generated:
                async for chunk in generated:
                    chunks.append(chunk)
    assert chunks == [Chunk("好", model="m")]


@pytest.mark.parametrize("kept", range(6))
async def test_a_stream_that_is_cut_anywhere(kept: int) -> None:
    words = [said(word) for word in ("一", "二", "三", "四")] + [END]
    handler = fails(grpc.StatusCode.UNAVAILABLE, "gone", after=tuple(words[:kept]))
    async with line_to(handler) as (line, _):
        if kept == len(words):
            # Behind the finish reason nothing can spoil the reply.
            assert "".join(chunk.text for chunk in await chunks_of(line)) == "一二三四"
        else:
            assert (await failure(line)).kind is (ErrorClass.INCOMPLETE if kept else ErrorClass.TRANSIENT)


async def test_nothing_is_repeated_here() -> None:
    async with line_to(fails(grpc.StatusCode.UNAVAILABLE), says(END)) as (line, upstream):
        assert (await failure(line)).kind is ErrorClass.TRANSIENT
        assert len(upstream.calls) == 1


async def test_an_error_says_what_is_needed_and_no_key() -> None:
    message = f"key {KEY} may do 10 a minute, " + "x" * 1000
    handler = fails(grpc.StatusCode.RESOURCE_EXHAUSTED, message, ErrorInfo(reason="SLOW_DOWN"), retry_info(1500))
    async with line_to(handler) as (line, _):
        error = await failure(line)
    assert error.kind is ErrorClass.RATE_LIMIT
    assert (error.model, error.status, error.code, error.retry_after) == ("m", 8, "SLOW_DOWN", 1.5)
    assert "may do 10 a minute" in error.detail
    assert KEY not in f"{error!r}{error}{error.detail}"
    assert len(error.said) == 500
    assert error.__cause__ is None
    assert error.__suppress_context__


async def test_a_key_at_the_edge_of_a_long_error_is_blanked_whole() -> None:
    for length in range(470, 500):
        async with line_to(fails(grpc.StatusCode.INTERNAL, "x" * length + KEY)) as (line, _):
            assert KEY[:8] not in (await failure(line)).detail


async def test_a_key_that_cannot_be_sent() -> None:
    async with line_to(says(END)) as (line, upstream):
        for key in ("two\nlines", "schlüssel", "a b"):
            with pytest.raises(ProviderError, match="the key holds characters") as caught:
                await anext(line.generate(TALK, said(""), TalkReader("m"), Budget(20), key=key))
            assert caught.value.kind is ErrorClass.AUTH
            assert key not in str(caught.value)
        assert upstream.calls == []


# --- time ---------------------------------------------------------------------------------------


async def test_the_first_text_takes_too_long() -> None:
    async with line_to(hangs, first_token_seconds=0.05) as (line, upstream):
        error = await failure(line)
        assert error.kind is ErrorClass.TIMEOUT
        assert "did not begin" in error.detail
        await asyncio.wait_for(upstream.calls[0].cancelled.wait(), 5)


async def test_messages_without_text_do_not_count_as_the_first() -> None:
    async def handler(call: Call) -> None:
        while True:
            await call.say(said(""))
            await asyncio.sleep(0.01)

    async with line_to(handler, first_token_seconds=0.1) as (line, upstream):
        assert (await failure(line)).kind is ErrorClass.TIMEOUT
        await asyncio.wait_for(upstream.calls[0].cancelled.wait(), 5)


async def test_a_pause_is_too_long() -> None:
    async def handler(call: Call) -> None:
        await call.say(said("好"))
        await hangs(call)

    async with line_to(handler, idle_seconds=0.05) as (line, upstream):
        error = await failure(line)
        assert error.kind is ErrorClass.TIMEOUT
        assert "paused" in error.detail
        await asyncio.wait_for(upstream.calls[0].cancelled.wait(), 5)


@pytest.mark.parametrize("more", [{}, {"total_seconds": 0.05}])
async def test_the_whole_takes_too_long(more: dict[str, object]) -> None:
    async def handler(call: Call) -> None:
        while True:
            await call.say(said("好"))
            await asyncio.sleep(0.01)

    async with line_to(handler, **more) as (line, upstream):
        assert (await failure(line, Budget(20 if more else 0.05))).kind is ErrorClass.TIMEOUT
        await asyncio.wait_for(upstream.calls[0].cancelled.wait(), 5)


async def test_a_spent_budget_makes_no_call() -> None:
    async with line_to(says(END)) as (line, upstream):
        assert (await failure(line, Budget(0))).kind is ErrorClass.TIMEOUT
        assert upstream.calls == []


async def test_the_time_of_whoever_reads_does_not_count() -> None:
    chunks = []
    async with (
        line_to(says(said("一"), said("二"), END), idle_seconds=0.05, first_token_seconds=5) as (line, _),
        aclosing(line.generate(TALK, said(""), TalkReader("m"), Budget(20))) as generated,
    ):
        async for chunk in generated:
            chunks.append(chunk.text)
            await asyncio.sleep(0.1)
    assert "".join(chunks) == "一二"


@pytest.mark.parametrize("counted", [True, False])
async def test_an_end_of_the_stream_that_does_not_come_is_not_waited_for(counted: bool) -> None:
    async def handler(call: Call) -> None:
        await call.say(END)
        if counted:
            await call.say(said("COUNTED"))
        await hangs(call)

    async with line_to(handler) as (line, upstream):
        async with asyncio.timeout(10):
            assert (await chunks_of(line, Budget(900)))[-1].finish is FinishReason.STOP
        await asyncio.wait_for(upstream.calls[0].cancelled.wait(), 5)


async def test_connecting_takes_too_long() -> None:
    left = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Takes the connection and never says a word of HTTP/2.
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    line = GrpcLine("m", f"127.0.0.1:{port}", ModelSettings(connect_seconds=0.05))
    try:
        error = await failure(line)
        # gRPC gives the attempt up at the same moment; whoever is first tells the error.
        assert error.kind in (ErrorClass.TIMEOUT, ErrorClass.TRANSIENT)
        assert "connecting took too long" in error.detail or "timed out" in error.detail
    finally:
        await line.aclose()
        await left.wait()
        server.close()
        await server.wait_closed()


async def test_nobody_listens(unused_tcp_port: int) -> None:
    line = GrpcLine("m", f"127.0.0.1:{unused_tcp_port}", ModelSettings())
    assert [(await failure(line)).kind for _ in range(3)] == [ErrorClass.TRANSIENT] * 3
    await line.aclose()


async def test_a_backend_that_comes_back_is_found(unused_tcp_port: int) -> None:
    line = GrpcLine("m", f"127.0.0.1:{unused_tcp_port}", ModelSettings())
    assert (await failure(line)).kind is ErrorClass.TRANSIENT
    async with serve(says(END), address=f"127.0.0.1:{unused_tcp_port}"), asyncio.timeout(10):
        chunks: list[Chunk] = []
        while not chunks:
            with suppress(ProviderError):
                chunks = await chunks_of(line)
            await asyncio.sleep(0.05)
    assert chunks[-1].finish is FinishReason.STOP
    await line.aclose()


# --- leaving --------------------------------------------------------------------------------------


async def test_a_generator_that_is_closed_cancels_the_call() -> None:
    async def handler(call: Call) -> None:
        await call.say(said("好"))
        await hangs(call)

    async with line_to(handler) as (line, upstream):
        async with aclosing(line.generate(TALK, said(""), TalkReader("m"), Budget(20))) as chunks:
            assert (await anext(chunks)).text == "好"
        await asyncio.wait_for(upstream.calls[0].cancelled.wait(), 5)


async def test_a_task_that_is_cancelled_cancels_the_call_and_stays_cancelled() -> None:
    begun = asyncio.Event()

    async def handler(call: Call) -> None:
        begun.set()
        await hangs(call)

    async with line_to(handler) as (line, upstream):
        task = asyncio.create_task(chunks_of(line))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        await asyncio.wait_for(upstream.calls[0].cancelled.wait(), 5)


@pytest.mark.parametrize("words", [0, 1])
async def test_a_call_that_the_backend_cancels_is_a_failure_and_no_cancellation(words: int) -> None:
    async with line_to(fails(grpc.StatusCode.CANCELLED, after=(said("好"),) * words)) as (line, _):
        assert (await failure(line)).kind is (ErrorClass.INCOMPLETE if words else ErrorClass.TRANSIENT)


async def test_a_server_that_stops_midway() -> None:
    async def handler(call: Call) -> None:
        await call.say(said("好"))
        await hangs(call)

    async with (
        line_to(handler) as (line, upstream),
        aclosing(line.generate(TALK, said(""), TalkReader("m"), Budget(20))) as chunks,
    ):
        assert (await anext(chunks)).text == "好"
        await upstream.server.stop(None)
        with pytest.raises(ProviderError) as caught:
            await anext(chunks)
    assert caught.value.kind is ErrorClass.INCOMPLETE


async def test_closing_fails_what_is_under_way_and_what_comes_later() -> None:
    begun = asyncio.Event()

    async def handler(call: Call) -> None:
        begun.set()
        await hangs(call)

    async with line_to(handler) as (line, _):
        task = asyncio.create_task(failure(line))
        await begun.wait()
        await line.aclose()
        assert (await task).kind is ErrorClass.TRANSIENT
        assert (await failure(line)).kind is ErrorClass.TRANSIENT


async def test_calls_beyond_the_limit_wait_their_turn() -> None:
    go, full, running = asyncio.Event(), asyncio.Event(), 0

    async def handler(call: Call) -> None:
        nonlocal running
        running += 1
        assert running <= 2
        if running == 2:
            full.set()
        await go.wait()
        await call.say(END)
        running -= 1

    async with line_to(handler, max_connections=2) as (line, upstream):
        tasks = [asyncio.create_task(chunks_of(line)) for _ in range(6)]
        await full.wait()
        error = await failure(line, Budget(0.05))
        assert (error.kind, error.detail) == (ErrorClass.TIMEOUT, "no place for a call became free in time")
        go.set()
        await asyncio.gather(*tasks)
        assert len(upstream.calls) == 6


# --- other calls ------------------------------------------------------------------------------------


async def test_one_question_one_answer() -> None:
    ask = Method("/test.Talk/Ask", StringValue, Shape.UNARY)
    async with line_to(says(said("答")), says(), fails(grpc.StatusCode.NOT_FOUND, f"no {KEY}")) as (line, _):
        assert (await line.ask(ask, said("问"), Budget(20))).value == "答"
        with pytest.raises(ProviderError) as caught:
            await line.ask(ask, said("问"), Budget(20))
        assert caught.value.kind in (ErrorClass.INCOMPLETE, ErrorClass.TRANSIENT)
        with pytest.raises(ProviderError) as caught:
            await line.ask(ask, said("问"), Budget(20), key=KEY)
        assert (caught.value.kind, caught.value.detail) == (ErrorClass.NOT_FOUND, "NOT_FOUND: no ********")


async def test_one_answer_that_does_not_come() -> None:
    ask = Method("/test.Talk/Ask", StringValue, Shape.UNARY)
    async with line_to(hangs) as (line, upstream):
        with pytest.raises(ProviderError) as caught:
            await line.ask(ask, said("问"), Budget(0.05))
        assert caught.value.kind is ErrorClass.TIMEOUT
        await asyncio.wait_for(upstream.calls[0].cancelled.wait(), 5)


async def test_a_stream_that_is_read_message_by_message() -> None:
    async with line_to(says(said("一"), said("二")), hangs) as (line, upstream):
        async with line.open(TALK, said("问"), Budget(20)) as incoming:
            messages = [await incoming.next(5) for _ in range(3)]
        assert messages == [said("一"), said("二"), None]
        async with line.open(TALK, said("问"), Budget(20)) as incoming:
            with pytest.raises(ProviderError) as caught:
                await incoming.next(0.05)
            assert caught.value.kind is ErrorClass.TIMEOUT
        await asyncio.wait_for(upstream.calls[1].cancelled.wait(), 5)
