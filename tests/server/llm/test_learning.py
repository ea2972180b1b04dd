"""A model that refuses is asked again as it wants to be, and later calls are made that way at once."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import msgspec
import pytest
from structlog.testing import capture_logs

from server.llm.base import Chunk, ErrorClass, ProviderError
from server.llm.learning import Learning


class Fields(msgspec.Struct, frozen=True):
    refuses: frozenset[str] = frozenset()

    def after(self, error: ProviderError, body: Mapping[str, object]) -> "Fields":
        return Fields(self.refuses | {error.code}) if error.code in body else self


class Model:
    """Refuses the fields that it does not bear, one at a time."""

    def __init__(self, *strange: str) -> None:
        self.strange = strange
        self.asked: list[set[str]] = []

    async def ask(self, body: Mapping[str, object]) -> AsyncGenerator[Chunk, None]:
        self.asked.append(set(body))
        for field in self.strange:
            if field in body or field == "never sent":
                raise ProviderError(ErrorClass.BAD_REQUEST, "no", code=field)
        yield Chunk(text="好")


def body(manners: Fields) -> dict[str, object]:
    return {field: 1 for field in ("a", "b", "c") if field not in manners.refuses}


async def said(learning: Learning[Fields], model: Model) -> str:
    async with aclosing(learning.generate(body, model.ask)) as chunks:
        return "".join([chunk.text async for chunk in chunks])


async def test_each_refusal_teaches_once() -> None:
    model, learning = Model("b", "a"), Learning("m", Fields())
    with capture_logs() as lines:
        assert [await said(learning, model), await said(learning, model)] == ["好", "好"]
    assert model.asked == [{"a", "b", "c"}, {"a", "c"}, {"c"}, {"c"}]
    assert [(line["event"], line["model"], line["refuses"]) for line in lines] == [
        ("llm_manners_learnt", "m", ["b"]),
        ("llm_manners_learnt", "m", ["a", "b"]),
    ]


async def test_a_refusal_that_teaches_nothing_is_the_end() -> None:
    model, learning = Model("never sent"), Learning("m", Fields())
    with pytest.raises(ProviderError):
        await said(learning, model)
    assert len(model.asked) == 1
