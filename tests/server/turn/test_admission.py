"""Who is turned away at the door."""

import msgspec
import pytest

from server.budget import Budget
from server.errors import ResourceNotFound, RouteLoop
from server.settings import Settings
from tests.server.turn.conftest import PlayedModel, ask, owed

HERE = "centre-1"


async def test_what_has_been_here_before_is_refused_and_leaves_no_trace(open_room, model: PlayedModel) -> None:  # type: ignore[no-untyped-def]  # a fixture
    come_round = msgspec.structs.replace(ask(request_id="m1"), via=("edge-1", HERE, "edge-2"))
    async with open_room(Settings(node_id=HERE)) as room:
        with pytest.raises(RouteLoop) as caught:
            await room.turns.converse(come_round, Budget(5))
        assert caught.value.metadata == {"node": HERE}
        with pytest.raises(RouteLoop):
            async with room.turns.stream(come_round, Budget(5)):
                pass
        with pytest.raises(RouteLoop):
            await room.turns.submit(come_round, owed())
        with pytest.raises(ResourceNotFound):
            await room.turns.get(come_round.name)
        with pytest.raises(ResourceNotFound):
            await room.turns.conversation(come_round.name.conversation)
    assert not model.prompts


async def test_a_loop_is_refused_and_not_attached_to_the_turn_that_waits_for_it(open_room) -> None:  # type: ignore[no-untyped-def]  # a fixture
    first = ask(request_id="m1")
    async with open_room(Settings(node_id=HERE)) as room:
        await room.turns.converse(first, Budget(5))
        with pytest.raises(RouteLoop):
            await room.turns.converse(msgspec.structs.replace(first, via=(HERE,)), Budget(5))


async def test_other_servers_on_the_way_do_not_matter(open_room) -> None:  # type: ignore[no-untyped-def]  # a fixture
    passed_on = msgspec.structs.replace(ask(), via=("edge-1", "edge-2"))
    async with open_room(Settings(node_id=HERE)) as room:
        assert (await room.turns.converse(passed_on, Budget(5))).reply == "echo: 你好"
