"""What stands around every handler, one concern at a time and all together."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, get_current_span

from program.health import Health
from server.rpc.interceptors.wrap import Around, Behaviour, Context, Method, wrap
from server.settings import CallerSettings, GrpcSettings
from tests.server.journal_lines import journal, lines
from tests.server.rpc.fakes import Open, open_server
from weconverse.v1 import channel_pb2
from weconverse.v1 import conversation_pb2 as pb

GET = pb.GetTurnRequest(name="conversations/a/turns/b")
ASK = pb.ConverseRequest(conversation="conversations/zhang", input={"parts": [{"text": "你好"}]})


def loopback(**fields: Any) -> GrpcSettings:
    return GrpcSettings(address="127.0.0.1:0", **fields)


def sha(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


async def code_of(call: Any) -> str:
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"


# --- wrap ---------------------------------------------------------------------------------


def test_a_generator_cannot_be_wrapped() -> None:
    async def generator(request: Any, context: Any) -> AsyncIterator[int]:
        yield 1

    def synchronous(request: Any, context: Any) -> int:
        return 1

    for behaviour in (generator, synchronous):
        for make in (grpc.unary_stream_rpc_method_handler, grpc.stream_stream_rpc_method_handler):
            with pytest.raises(TypeError, match="is not a coroutine"):
                wrap(make(behaviour), lambda inner: inner)


async def test_concerns_run_in_the_order_of_the_list_and_are_built_once() -> None:
    seen: list[str] = []

    def named(name: str) -> Around:
        def around(method: Method, inner: Behaviour) -> Behaviour:
            seen.append(f"build {name}")

            async def behaviour(request: Any, context: Context) -> Any:
                seen.append(name)
                return await inner(request, context)

            return behaviour

        return around

    def both(concerns: Sequence[Around]) -> Sequence[Around]:
        return (*concerns, named("outer"), named("inner"))

    async with open_server(around=both) as server:
        await server.conversation.GetTurn(GET)
        await server.conversation.GetTurn(GET)
    assert seen == ["build inner", "build outer", "outer", "inner", "outer", "inner"]


async def test_an_unknown_method_is_unimplemented() -> None:
    async with open_server() as server:
        assert await code_of(server.channel.unary_unary("/weconverse.v1.ConversationService/Nothing")(b"")) == (
            "UNIMPLEMENTED"
        )


# --- identity -----------------------------------------------------------------------------

CALLERS = (
    CallerSettings(name="报表", token_sha256=(sha("old"), sha("new"))),
    CallerSettings(name="adapter", token_sha256=(sha("third"),)),
)


@pytest.mark.parametrize(
    ("metadata", "caller"),
    [
        ((("authorization", "Bearer old"),), "报表"),
        ((("authorization", "bearer new"),), "报表"),
        ((("authorization", "Bearer third"),), "adapter"),
        ((), None),
        ((("authorization", "Bearer wrong"),), None),
        ((("authorization", "Bearer "),), None),
        ((("authorization", "Basic b2xk"),), None),
        ((("authorization", "old"),), None),
        ((("authorization", ""),), None),
        ((("authorization", f"Bearer {sha('old')}"),), None),
        ((("x-authorization", "Bearer old"),), None),
    ],
)
async def test_bearer_tokens(metadata: tuple[tuple[str, str], ...], caller: str | None) -> None:
    async with open_server(loopback(callers=CALLERS)) as server:
        expected = "OK" if caller else "UNAUTHENTICATED"
        assert await code_of(server.conversation.Converse(ASK, metadata=metadata)) == expected
        assert [ask.caller for ask in server.turns.asks] == ([caller] if caller else [])


async def test_every_rpc_wants_the_credential_but_health_and_reflection() -> None:
    async with open_server(loopback(callers=CALLERS)) as server:
        for service in (pb.DESCRIPTOR, channel_pb2.DESCRIPTOR):
            for name, description in service.services_by_name.items():
                for method in description.methods:
                    stub = server.conversation if name == "ConversationService" else server.attaching
                    call = getattr(stub, method.name)
                    asked = call() if method.client_streaming else call(method.input_type._concrete_class())
                    assert await code_of(asked) == "UNAUTHENTICATED", method.name
        health = health_pb2_grpc.HealthStub(server.channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        assert "weconverse.v1.ConversationService" in await reflected(server)


async def test_an_open_loopback_knows_no_caller() -> None:
    async with open_server() as server:
        await server.conversation.Converse(ASK, metadata=(("authorization", "Bearer whatever"),))
        assert server.turns.asks[0].caller == ""


async def reflected(server: Open) -> list[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(server.channel)
    answers = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    return [service.name async for answer in answers for service in answer.list_services_response.service]


async def test_reflection_can_be_off() -> None:
    async with open_server(loopback(reflection="off")) as server:
        with pytest.raises(grpc.aio.AioRpcError, match="UNIMPLEMENTED"):
            await reflected(server)


# --- budget -------------------------------------------------------------------------------


async def test_too_many_calls_are_refused_with_a_time_to_come_back() -> None:
    async with open_server(loopback(max_calls=20)) as server:
        server.turns.go_on.clear()
        for _ in range(5):  # in waves: a place that is given back must be free again
            server.turns.arrived.clear()
            held = [server.conversation.Converse(ASK) for _ in range(20)]
            async with asyncio.timeout(5):
                while server.turns.running < 20:
                    await asyncio.sleep(0.002)
            refused = server.conversation.Converse(ASK)
            assert await code_of(refused) == "RESOURCE_EXHAUSTED"
            assert b"RetryInfo" in (await refused.trailing_metadata())["grpc-status-details-bin"]
            health = health_pb2_grpc.HealthStub(server.channel)
            await health.Check(health_pb2.HealthCheckRequest())
            for call in held:
                call.cancel()
            async with asyncio.timeout(5):
                while server.turns.running:
                    await asyncio.sleep(0.002)


# --- meter, journal, trace ------------------------------------------------------------------


async def test_calls_are_counted() -> None:
    async with open_server() as server:
        await server.conversation.GetTurn(GET)
        await code_of(server.conversation.GetTurn(pb.GetTurnRequest()))
        await code_of(server.conversation.StreamConverse(ASK))
        get = {"method": "ConversationService/GetTurn"}
        assert server.sample("rpc_calls_total", **get, code="OK") == 1
        assert server.sample("rpc_calls_total", **get, code="INVALID_ARGUMENT") == 1
        assert server.sample("rpc_seconds_count", **get) == 2
        assert server.sample("rpc_in_flight", **get) == 0
        assert server.sample("rpc_messages_sent_total", method="ConversationService/StreamConverse") == 4


async def test_each_call_is_one_line_without_words_or_names() -> None:
    with journal() as output:
        async with open_server(loopback(callers=CALLERS)) as server:
            metadata = (("authorization", "Bearer third"), ("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01"))
            await server.conversation.Converse(ASK, metadata=metadata)
            await code_of(server.conversation.StreamConverse(ASK, metadata=metadata))
            await code_of(server.conversation.Converse(ASK))
            await health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest())
            poll = pb.GetTurnRequest(name=GET.name, omit_input=True)
            await server.conversation.GetTurn(poll, metadata=metadata)
    unary, stream, refused = lines(output)
    assert unary["method"] == "ConversationService/Converse"
    assert unary["code"] == "OK"
    assert unary["caller"] == "adapter"
    assert len(unary["conversation"]) == 16
    assert len(unary["turn"]) == 32
    assert unary["trace_id"] == "ab" * 16
    assert unary["ms"] > 0
    assert stream["sent"] == 4
    assert refused["code"] == "UNAUTHENTICATED"
    text = output.getvalue().decode()
    assert "你好" not in text
    assert "zhang" not in text
    assert "third" not in text


async def test_a_defect_is_in_the_log_under_its_number() -> None:
    with journal() as output:
        async with open_server() as server:
            server.turns.error = ValueError("the reason")
            call = server.conversation.GetTurn(GET)
            assert await code_of(call) == "INTERNAL"
            details = (await call.trailing_metadata())["grpc-status-details-bin"]
        (crash,) = lines(output, "call_crashed")
        assert "ValueError: the reason" in crash["exception"]
        assert crash["error_id"].encode() in details
        assert lines(output)[0]["level"] == "warning"


class RecordingTracer:
    """A tracer that keeps what it was asked, as the SDK would send it away."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []

    @contextmanager
    def start_as_current_span(self, name: str, context: Any = None, kind: Any = None, **rest: Any) -> Iterator[Any]:
        parent = get_current_span(context).get_span_context()
        record: dict[str, Any] = {"name": name, "kind": kind, "trace": parent.trace_id, "set": dict(rest["attributes"])}
        self.spans.append(record)

        class Span(NonRecordingSpan):
            def set_attribute(self, key: str, value: Any) -> None:
                record["set"][key] = value

            def set_status(self, status: Any, description: str | None = None) -> None:
                record["status"] = status.description

        yield Span(SpanContext(1, 2, is_remote=False))


async def test_the_callers_trace_goes_on() -> None:
    tracer = RecordingTracer()
    async with open_server(tracer=tracer) as server:
        await server.conversation.GetTurn(GET, metadata=(("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01"),))
        await code_of(server.conversation.GetTurn(pb.GetTurnRequest(), metadata=(("traceparent", "nonsense"),)))
    good, bad = tracer.spans
    assert good["name"] == "weconverse.v1.ConversationService/GetTurn"
    assert good["kind"] is SpanKind.SERVER
    assert good["trace"] == int("ab" * 16, 16)
    assert good["set"]["rpc.grpc.status_code"] == 0
    assert bad["trace"] == 0
    assert bad["set"]["rpc.grpc.status_code"] == 3
    assert bad["status"] == "INVALID_ARGUMENT"


# --- health ---------------------------------------------------------------------------------


async def test_health_follows_the_named_parts() -> None:
    ready = Health("store", "grpc")
    response = health_pb2.HealthCheckResponse
    async with open_server(ready=ready) as server:
        stub = health_pb2_grpc.HealthStub(server.channel)
        services = ("", "weconverse.v1.ConversationService", "weconverse.v1.ChannelService")
        for service in services:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == response.NOT_SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=services[1]))
        assert (await watch.read()).status == response.NOT_SERVING
        for part in ready.parts:
            ready.mark(part, ready=True)
        assert (await watch.read()).status == response.SERVING
        ready.mark("store", ready=False)
        assert (await watch.read()).status == response.NOT_SERVING
        assert await code_of(stub.Check(health_pb2.HealthCheckRequest(service="other"))) == "NOT_FOUND"
        unknown = stub.Watch(health_pb2.HealthCheckRequest(service="other"))
        assert (await unknown.read()).status == response.SERVICE_UNKNOWN
        watch.cancel()
        unknown.cancel()
