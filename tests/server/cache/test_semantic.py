"""Replies to questions that mean the same: who gets them, and above all who does not."""

import asyncio
import random
from array import array
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import structs

from server.budget import Budget
from server.cache.base import CachedReply, SemanticCache
from server.cache.guards import gist_of, stopped_by
from server.cache.inprocess import MAX_REPLY_BYTES
from server.cache.key import partition_key
from server.cache.neighbours import cosine
from server.cache.semantic import InProcessSemanticCache
from server.domain import FinishReason
from server.llm.base import Image, Message, Prompt, Role
from server.llm.embedder import OptionalEmbedder, unit
from server.llm.embeddings import HttpEmbedder
from server.settings import EmbeddingSettings
from tests.server.llm.embedding_server import embedding_server
from tests.server.llm.ngram_embedder import DIMENSION, NgramEmbedder, ngram_vector
from tests.server.llm.upstream import hangs, serve

A, B = b"a" * 32, b"b" * 32
BUDGET = Budget(3600)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Seen:
    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()

    def semantic_asked(self, outcome: str) -> None:
        self.outcomes[outcome] += 1


def cache(vectors: Any = None, **more: Any) -> InProcessSemanticCache:
    defaults = {"threshold": 0.5, "dimension": DIMENSION, "entries": 100, "ttl_seconds": 60.0}
    return InProcessSemanticCache(vectors or OptionalEmbedder(NgramEmbedder(), 1), **(defaults | more))


def reply(text: str, finish: FinishReason = FinishReason.STOP) -> CachedReply:
    return CachedReply(text, finish, "m")


async def ask(kept: SemanticCache, question: str, answer: str, partition: bytes = A) -> str | None:
    """As a turn does: a reply that is known, or a new one that is then kept."""
    known = await kept.get(question, partition, BUDGET)
    if known is not None:
        return known.text
    await kept.put(question, partition, reply(answer))
    return None


# --- what is shared -----------------------------------------------------------------------


async def test_a_question_that_means_the_same_gets_the_answer() -> None:
    seen = Seen()
    kept = cache(observer=seen)
    assert await ask(kept, "请问公积金缴纳比例是多少", "12%") is None
    assert await ask(kept, "公积金的缴纳比例是多少", "?") == "12%"
    assert await ask(kept, "公积金缴纳比例是多少呢", "?") == "12%"
    assert await ask(kept, "社保缴纳比例是多少", "10%") is None
    assert await ask(kept, "打印机脱机了怎么办", "重启") is None
    assert await ask(kept, "print(x)", "?") is None
    assert seen.outcomes == {"hit": 2, "miss": 3, "unsuitable": 1}


async def test_similar_is_not_enough_below_the_threshold() -> None:
    close = cosine(ngram_vector("离职证明去哪里开"), ngram_vector("在哪里开离职证明"))
    for threshold, known in ((close - 1e-6, "人事"), (close + 1e-6, None)):
        kept = cache(threshold=threshold)
        await ask(kept, "离职证明去哪里开", "人事")
        assert await ask(kept, "在哪里开离职证明", "?") == known


async def test_the_nearest_that_passes_the_guards_answers() -> None:
    kept = cache(threshold=0.1)
    await ask(kept, "年假不能结转吗", "不能")
    await ask(kept, "我想问一下公司年假到底可不可以结转啊", "可以")
    assert await ask(kept, "年假能结转吗", "?") == "可以"


async def test_a_single_word_that_changed_is_another_question() -> None:
    kept = cache(threshold=-1.0)
    await ask(kept, "食堂几点开门", "七点")
    assert await ask(kept, "仓库几点开门", "九点") is None
    assert await ask(kept, "请问食堂几点开门呢", "?") == "七点"
    assert await ask(kept, "请问仓库几点开门呢", "?") == "九点"


@pytest.mark.parametrize("finish", [reason for reason in FinishReason if reason is not FinishReason.STOP])
async def test_only_complete_replies_are_kept(finish: FinishReason) -> None:
    kept = cache()
    assert await kept.get("年假能结转吗", A, BUDGET) is None
    await kept.put("年假能结转吗", A, reply("可", finish))
    assert await kept.get("年假能结转吗", A, BUDGET) is None


async def test_what_was_not_asked_for_is_not_kept() -> None:
    kept = cache()
    await kept.put("年假能结转吗", A, reply("可以"))
    assert await kept.get("年假能结转吗", A, BUDGET) is None
    await kept.put("年假能结转吗", B, reply("可以"))
    assert await kept.get("年假能结转吗", B, BUDGET) is None


async def test_the_first_of_two_answers_stays() -> None:
    kept = cache()
    for _ in range(2):
        assert await kept.get("年假能结转吗", A, BUDGET) is None
    for text in ("早", "晚"):
        await kept.put("年假能结转吗", A, reply(text))
    assert await ask(kept, "年假能结转吗", "?") == "早"


async def test_a_new_answer_takes_the_place_of_one_too_old() -> None:
    clock = Clock()
    kept = cache(clock=clock)
    await ask(kept, "年假能结转吗", "旧")
    clock.now = 61
    await ask(kept, "年假能结转吗", "新")
    assert await ask(kept, "年假能结转吗", "?") == "新"


# --- bounds -------------------------------------------------------------------------------


async def test_replies_go_with_time() -> None:
    clock = Clock()
    kept = cache(clock=clock)
    await ask(kept, "年假能结转吗", "可以")
    clock.now = 59.9
    assert await ask(kept, "年假可以结转吗", "?") == "可以"
    clock.now = 60
    assert await ask(kept, "年假可以结转吗", "不可以") is None


async def test_the_least_recently_used_goes_first() -> None:
    kept = cache(entries=2)
    await ask(kept, "年假能结转吗", "1")
    await ask(kept, "公积金比例是多少", "2")
    assert await ask(kept, "年假可以结转吗", "?") == "1"
    await ask(kept, "离职证明去哪里开", "3")
    assert await ask(kept, "年假能结转吗", "?") == "1"
    assert await ask(kept, "公积金比例是多少", "4") is None


async def test_all_partitions_together_have_a_bound() -> None:
    kept = cache(max_bytes=10_000)
    names = [bytes([number]) * 32 for number in range(10)]
    for name in names:
        await ask(kept, "年假能结转吗", "可以", name)
    alive = [name for name in names if await kept.get("年假能结转吗", name, BUDGET) is not None]
    assert alive == names[-len(alive) :]
    assert 2 <= len(alive) <= 4
    await kept.get("离职证明去哪里开", A, BUDGET)
    await kept.put("离职证明去哪里开", A, reply("长" * 2000))
    assert await kept.get("离职证明去哪里开", A, BUDGET) is not None


async def test_long_replies_are_not_kept() -> None:
    kept = cache()
    for text, known in (("好" * (MAX_REPLY_BYTES // 3 + 1), None), ("好" * (MAX_REPLY_BYTES // 3), "好")):
        await kept.get("年假能结转吗", A, BUDGET)
        await kept.put("年假能结转吗", A, reply(text))
        found = await kept.get("年假能结转吗", A, BUDGET)
        assert (found and found.text[:1]) == known


async def test_very_many_of_one_kind_are_searched_beside_the_loop() -> None:
    plain = gist_of("甲" * 6 + "乙流程")
    assert plain is not None
    texts = [chr(0x5000 + number) * 6 + "乙流程" for number in range(120)]
    alike = [text for text in texts if (gist := gist_of(text)) and gist.fingerprint == plain.fingerprint]
    assert len(alike) > 50
    kept = cache(Directions(), entries=len(alike), threshold=0.9, dimension=32, searched_on_loop=50)
    for text in alike:
        assert await ask(kept, text, text) is None
    assert await kept.get(alike[0], A, BUDGET) == reply(alike[0])
    assert await kept.get(alike[-1], A, BUDGET) == reply(alike[-1])
    assert await kept.get("丙" * 6 + "乙流程", A, BUDGET) is None


class Directions:
    """Vectors that cost little: each text has a direction of its own."""

    async def vector(self, text: str, budget: Budget) -> "array[float]":
        chance = random.Random(text)
        return unit(chance.gauss(0, 1) for _ in range(32))


# --- nothing ever breaks ------------------------------------------------------------------


async def test_an_embedder_that_is_away_is_a_miss_within_its_time() -> None:
    seen = Seen()
    async with serve(hangs) as upstream:
        embedder = HttpEmbedder("e", EmbeddingSettings(base_url=upstream.url))
        kept = cache(OptionalEmbedder(embedder, 0.05), observer=seen)
        async with asyncio.timeout(20):
            assert await ask(kept, "年假能结转吗", "可以") is None
            assert await ask(kept, "年假能结转吗", "可以") is None
        await embedder.aclose()
    assert seen.outcomes == {"no_vector": 2}


async def test_vectors_of_another_length_than_calibrated_are_not_used() -> None:
    seen = Seen()
    kept = cache(dimension=DIMENSION + 1, observer=seen)
    assert await ask(kept, "年假能结转吗", "可以") is None
    assert await ask(kept, "年假能结转吗", "可以") is None
    assert seen.outcomes == {"no_vector": 2}


@settings(deadline=None)
@given(st.lists(st.text(max_size=30) | st.text(alphabet="年假不能3天A\ud83d\x00 ", max_size=12), max_size=6))
def test_no_text_is_too_odd(texts: list[str]) -> None:
    async def run() -> None:
        kept = cache(threshold=-1.0)
        for text in texts:
            await ask(kept, text, "?")

    asyncio.run(run())


async def test_the_whole_way_over_http() -> None:
    async with embedding_server() as server:
        embedder = HttpEmbedder("e", EmbeddingSettings(base_url=server.url))
        kept = cache(OptionalEmbedder(embedder, 5))
        assert await ask(kept, "离职证明去哪里开", "人事") is None
        assert await ask(kept, "请问在哪里开离职证明？", "?") == "人事"
        assert [request["input"] for request in server.requests] == [["离职证明去哪里开"], ["请问在哪里开离职证明"]]
        await embedder.aclose()


# --- never across -------------------------------------------------------------------------

PROMPT = Prompt(
    "m",
    (Message(Role.SYSTEM, "简洁"), Message(Role.USER, "年假有几天?")),
    temperature=0.7,
    max_output_tokens=1500,
    request_id="r",
    user="p",
    caller="crm",
)


def test_who_may_share() -> None:
    key = partition_key("v1", PROMPT)
    assert key is not None
    assert len(key) == 32
    same = (
        structs.replace(PROMPT, request_id="s", user="q", conversation="c"),
        structs.replace(PROMPT, messages=(PROMPT.messages[0], Message(Role.USER, "公积金呢"))),
    )
    assert all(partition_key("v1", other) == key for other in same)


@pytest.mark.parametrize(
    "other",
    [
        structs.replace(PROMPT, caller="erp"),
        structs.replace(PROMPT, caller=""),
        structs.replace(PROMPT, model="n"),
        structs.replace(PROMPT, fallbacks=("n",)),
        structs.replace(PROMPT, temperature=0.8),
        structs.replace(PROMPT, temperature=None),
        structs.replace(PROMPT, max_output_tokens=None),
        structs.replace(PROMPT, messages=PROMPT.messages[1:]),
        structs.replace(PROMPT, messages=(Message(Role.SYSTEM, "详细"), PROMPT.messages[1])),
    ],
)
def test_who_may_not(other: Prompt) -> None:
    assert partition_key("v1", other) not in (None, partition_key("v1", PROMPT))
    assert partition_key("v2", PROMPT) != partition_key("v1", PROMPT)


@pytest.mark.parametrize(
    "messages",
    [
        (),
        (*PROMPT.messages, Message(Role.ASSISTANT, "五天"), Message(Role.USER, "病假呢")),
        (Message(Role.USER, "我是王芳"), Message(Role.USER, "年假有几天")),
        (Message(Role.USER, "这是什么", (Image("image/png", b"x"),)),),
    ],
)
def test_what_belongs_to_one_person(messages: tuple[Message, ...]) -> None:
    assert partition_key("v1", structs.replace(PROMPT, messages=messages)) is None


QUESTIONS = [
    "年假能结转吗",
    "年假可以结转吗",
    "年假不能结转吗",
    "请问年假能不能结转",
    "病假能结转吗",
    "餐券能结转吗",
    "饭票能结转吗",
]


class Neighbours(RuleBasedStateMachine):
    """Callers and assistants who ask the same questions of one cache, and wait for their answers in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.kept = cache(threshold=0.2, entries=3, max_bytes=12_000, clock=self.clock)
        self.running: list[tuple[str, str, str]] = []
        self.answered: dict[str, tuple[str, str, str, float]] = {}
        self.hits = 0

    @staticmethod
    def partition(caller: str, assistant: str) -> bytes:
        key = partition_key(assistant, structs.replace(PROMPT, caller=caller))
        assert key is not None
        return key

    @rule(
        caller=st.sampled_from(["crm", "erp", ""]),
        assistant=st.sampled_from(["v1", "v2"]),
        question=st.sampled_from(QUESTIONS),
    )
    def asks(self, caller: str, assistant: str, question: str) -> None:
        known = asyncio.run(self.kept.get(question, self.partition(caller, assistant), BUDGET))
        if known is None:
            self.running.append((caller, assistant, question))
            return
        self.hits += 1
        whose, of_what, to, when = self.answered[known.text]
        assert (whose, of_what) == (caller, assistant)
        assert self.clock.now < when + 60
        one, other = gist_of(question), gist_of(to)
        assert one is not None
        assert other is not None
        assert stopped_by(one, other) == ""
        assert cosine(ngram_vector(question), ngram_vector(to)) >= 0.2

    @rule(which=st.integers(0, 100))
    def is_answered(self, which: int) -> None:
        if self.running:
            caller, assistant, question = self.running.pop(which % len(self.running))
            text = f"{len(self.answered)}"
            self.answered[text] = (caller, assistant, question, self.clock.now)
            asyncio.run(self.kept.put(question, self.partition(caller, assistant), reply(text)))

    @rule(seconds=st.sampled_from([1.0, 30.0, 61.0]))
    def waits(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def counts_its_bytes(self) -> None:
        entries = [entry for kept in self.kept._partitions.values() for entry in kept.entries.values()]
        assert self.kept._bytes == sum(entry.size for entry in entries) <= 12_000
        assert all(len(kept.entries) <= 3 for kept in self.kept._partitions.values())


TestNeighbours = Neighbours.TestCase
TestNeighbours.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
