"""Servers in front of servers: what a caller of the first one sees of the last."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

import weconverse
from program.secret import Secret
from server.compose import Running, running
from server.settings import (
    CallerSettings,
    GrpcSettings,
    ModelSettings,
    OperationsSettings,
    Settings,
    StoreSettings,
)
from tests.journey.stack import free_ports
from weconverse import ConversationClient, Turn, TurnOptions, text_of

SCRIPT = """
[defaults]
answer = "总部回答:{question}"

[[entries]]
words = ["慢慢说"]
answer = "一二三四五六七八九十一二三四五六七八九十一二三四五六七八九十一二三四五六七八九十"
reasoning = "先想一想"

[[entries]]
words = ["不说话"]
answer = "太晚了"
stall_seconds = 30.0

[[entries]]
words = ["拒答"]
fail = "content"

[[entries]]
words = ["坏钥匙"]
fail = "auth"

[[entries]]
words = ["太忙"]
fail = "overloaded"

[[entries]]
words = ["断开"]
answer = "这句话会在中间断开,后面的看不到"
cut = true
"""


def settings(folder: Path, name: str, model: ModelSettings, **more: object) -> Settings:
    return Settings(
        grpc=more.pop("grpc", GrpcSettings(address="127.0.0.1:0", drain_seconds=1)),  # type: ignore[arg-type]  # as given
        operations=OperationsSettings(address=""),
        store=StoreSettings(path=str(folder / f"{name}.db")),
        models={"default": model},
        node_id=name,
        **more,  # type: ignore[arg-type]  # as a test needs them
    )


def to(port: int, **more: object) -> ModelSettings:
    return ModelSettings(protocol="weconverse", target=f"127.0.0.1:{port}", max_attempts=1, **more)  # type: ignore[arg-type]  # as a test needs them


TOKEN = "token-of-the-edge"


class Pair:
    """A centre, an edge in front of it, and a client of each."""

    def __init__(self, centre: ConversationClient, edge: ConversationClient) -> None:
        self.centre = centre
        self.edge = edge

    async def at_centre(self, conversation: str, enough: Callable[[list[Turn]], bool]) -> list[Turn]:
        """The turns of a conversation at the centre, once there are enough."""
        async with asyncio.timeout(10):
            while True:
                try:
                    turns = [turn async for turn in self.centre.list_turns(conversation)]
                except weconverse.NotFound:
                    turns = []
                if enough(turns):
                    return turns
                await asyncio.sleep(0.02)


@asynccontextmanager
async def client_of(server: Running) -> AsyncIterator[ConversationClient]:
    async with ConversationClient(f"127.0.0.1:{server.port}", honour_retry_info=False) as client:
        yield client


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    script = tmp_path / "script.toml"
    script.write_text(SCRIPT, encoding="utf-8")
    model = ModelSettings(protocol="scripted", script_file=str(script), tokens_per_second=100, max_attempts=1)
    async with AsyncExitStack() as stack:
        centre = await stack.enter_async_context(running(settings(tmp_path, "centre", model)))
        edge = await stack.enter_async_context(running(settings(tmp_path, "edge", to(centre.port))))
        yield Pair(await stack.enter_async_context(client_of(centre)), await stack.enter_async_context(client_of(edge)))


async def test_an_answer_streams_through(pair: Pair) -> None:
    options = TurnOptions(include_reasoning=True)
    async with pair.edge.stream("a", "慢慢说", options=options) as stream:
        events = [event async for event in stream]
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "completed"
    assert kinds.count("delta") > 5, "it came in pieces"
    assert "".join(event.reasoning.text for event in events) == "先想一想"
    turn = stream.turn
    assert turn is not None
    assert (turn.finish_reason, turn.model) == (Turn.STOP, "default")
    assert text_of(turn.reply) == stream.text
    (there,) = await pair.at_centre("a", lambda turns: len(turns) == 1)
    assert there.usage.output_token_count == turn.usage.output_token_count > 20


async def test_ends_pass_through(pair: Pair) -> None:
    short = await pair.edge.converse("a", "慢慢说", options=TurnOptions(max_output_tokens=3))
    assert (short.finish_reason, text_of(short.reply)) == (Turn.LENGTH, "一二三四五六")
    refused = await pair.edge.converse("b", "拒答")
    assert refused.finish_reason == Turn.PROVIDER_BLOCKED
    assert text_of(refused.reply)


@pytest.mark.parametrize(
    ("question", "error"),
    [
        ("坏钥匙", weconverse.ProviderRefused),
        ("太忙", weconverse.NoRouteAvailable),
        ("断开", weconverse.ReplyInterrupted),
    ],
)
async def test_errors_pass_through(pair: Pair, question: str, error: type[weconverse.WeConverseError]) -> None:
    with pytest.raises(error):
        await pair.edge.converse("a", question)


async def test_the_edge_remembers_and_the_centre_does_not(pair: Pair) -> None:
    await pair.edge.converse("a", "我叫小明")
    assert "小明" in text_of((await pair.edge.converse("a", "我叫什么？")).reply)
    assert (await pair.edge.get_conversation("a")).remembered_message_count == 4
    assert (await pair.centre.get_conversation("a")).remembered_message_count == 0
    await pair.edge.reset("a")
    assert "小明" not in text_of((await pair.edge.converse("a", "我叫什么？")).reply)


async def test_leaving_the_edge_stops_the_centre(pair: Pair) -> None:
    async with pair.edge.stream("a", "慢慢说") as stream:
        async for event in stream:
            if event.HasField("delta"):
                break
    (there,) = await pair.at_centre("a", lambda turns: bool(turns) and turns[0].state == Turn.CANCELLED)
    assert there.state == Turn.CANCELLED
    # The next question of the conversation does not wait for the one that was left.
    assert text_of((await pair.edge.converse("a", "你好", timeout=5)).reply) == "总部回答:你好"


async def test_a_deadline_at_the_edge_ends_the_turn_at_the_centre(pair: Pair) -> None:
    with pytest.raises(weconverse.DeadlineExceeded):
        await pair.edge.converse("a", "不说话", request_id="", timeout=1.2)
    await pair.at_centre("a", lambda turns: bool(turns) and turns[0].state in (Turn.CANCELLED, Turn.FAILED))


async def test_a_person_keeps_the_name_that_limits_count_by(pair: Pair) -> None:
    await pair.edge.converse("a", "你好", sender=weconverse.Sender(id="p-1", display_name="小明"))
    (there,) = await pair.at_centre("a", lambda turns: len(turns) == 1)
    assert there.sender.id == "p-1"
    assert text_of(there.input) == "小明:你好", "the model there knows who speaks"


async def test_the_edge_is_a_caller_with_a_token(tmp_path: Path) -> None:
    callers = (CallerSettings(name="edge", token_sha256=(hashlib.sha256(TOKEN.encode()).hexdigest(),)),)
    guarded = settings(
        tmp_path,
        "centre",
        ModelSettings(protocol="scripted", tokens_per_second=0),
        grpc=GrpcSettings(address="127.0.0.1:0", callers=callers),
    )
    async with running(guarded) as centre:
        for key, answered in ((TOKEN, True), ("another", False)):
            async with (
                running(settings(tmp_path, f"edge-{answered}", to(centre.port, api_key=Secret(key)))) as edge,
                client_of(edge) as client,
            ):
                if answered:
                    assert (await client.converse("a", "你好")).finish_reason == Turn.STOP
                else:
                    with pytest.raises(weconverse.WeConverseError):
                        await client.converse("a", "你好")


# --- circles -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_a_circle_is_refused_and_no_storm(tmp_path: Path, size: int) -> None:
    ports = free_ports(size)
    async with AsyncExitStack() as stack:
        servers = []
        for number, port in enumerate(ports):
            ring = settings(
                tmp_path,
                f"node-{number}",
                to(ports[(number + 1) % size]),
                grpc=GrpcSettings(address=f"127.0.0.1:{port}", drain_seconds=1),
            )
            servers.append(await stack.enter_async_context(running(ring)))
        clients = [await stack.enter_async_context(client_of(server)) for server in servers]
        with pytest.raises(weconverse.RouteLoop):
            await clients[0].converse("a", "谁来回答?", request_id="r-1", timeout=10)
        for number, client in enumerate(clients):
            turns = [turn async for turn in client.list_turns("a")]
            assert len(turns) == 1, f"node {number} was asked once, and was not asked again"


async def test_a_chain_longer_than_eight_is_a_loop_too(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        last = await stack.enter_async_context(
            running(settings(tmp_path, "end", ModelSettings(protocol="scripted", tokens_per_second=0)))
        )
        chain = [last]
        for number in range(9):
            link = settings(tmp_path, f"link-{number}", to(chain[-1].port))
            chain.append(await stack.enter_async_context(running(link)))
        eight = await stack.enter_async_context(client_of(chain[8]))
        nine = await stack.enter_async_context(client_of(chain[9]))
        assert (await eight.converse("a", "够得着", timeout=20)).finish_reason == Turn.STOP
        with pytest.raises(weconverse.RouteLoop):
            await nine.converse("b", "够不着", timeout=20)
