"""Who answers what: the caller's wish, the first rule that holds, the classifier, or nobody in particular."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest

from server.budget import Budget
from server.domain import Ask, Content, FinishReason, MediaPart, Part, TextPart, TurnName, TurnOptions
from server.llm.base import Chunk, ErrorClass, Prompt, ProviderError
from server.routing.base import Unobserved
from server.routing.intents import Intents
from server.routing.language import language_of
from server.settings import AssistantSettings, ClassifierSettings, IntentSettings

INTENTS = {
    "vision": IntentSettings(has_pictures=True, models=("eyes",)),
    "technical": IntentSettings(
        words=("报错", "API", "日志"), models=("coder", "main"), temperature=0.2, max_output_tokens=900
    ),
    "ticket": IntentSettings(patterns=(r"\b(inc|req)\d{4,}\b",), models=("coder",)),
    "english": IntentSettings(languages=("en",), max_characters=400, models=("west",)),
    "essay": IntentSettings(languages=("zh",), min_characters=60, temperature=0.9),
    "creative": IntentSettings(description="poems, slogans and stories", temperature=0.9, models=("poet",)),
    "support": IntentSettings(description="how to use the company's systems", temperature=0.2),
}


class Counted(Unobserved):
    def __init__(self) -> None:
        self.chosen: list[tuple[str, str]] = []

    def intent_chosen(self, assistant: str, intent: str, by: str) -> None:
        self.chosen.append((intent, by))


class Sorter:
    """A classifier's model that says what a function says."""

    def __init__(self, says: Callable[[str], str] = lambda question: "none") -> None:
        self.says = says
        self.prompts: list[Prompt] = []
        self.error: ProviderError | None = None
        self.go: asyncio.Event | None = None

    async def generate(self, prompt: Prompt, budget: Budget) -> AsyncGenerator[Chunk, None]:
        self.prompts.append(prompt)
        if self.go is not None:
            await self.go.wait()
        if self.error is not None:
            raise self.error
        yield Chunk(self.says(prompt.messages[-1].text), finish=FinishReason.STOP, model="small")

    async def aclose(self) -> None: ...


def made(sorter: Sorter, observer: Counted | None = None, classifier: ClassifierSettings | None = None) -> Intents:
    entry = AssistantSettings(
        model="main",
        fallback_models=("spare",),
        intents=INTENTS,
        classifier=classifier or ClassifierSettings(model="small"),
    )
    return Intents({"default": entry, "plain": AssistantSettings(model="main")}, sorter, observer or Counted())


def ask(text: str, *parts: Part, **options: object) -> Ask:
    wanted = TurnOptions(**options)  # type: ignore[arg-type]
    content = Content((*((TextPart(text),) if text else ()), *parts))
    return Ask(TurnName("c", "r"), content, False, "default", options=wanted)


LONG = Budget(3600)
"""More than all tests take together: a budget begins when it is made, and this one when the tests are collected."""


@pytest.mark.parametrize(
    ("text", "parts", "intent", "models"),
    [
        ("VPN 报错 809 怎么办", (), "technical", ("coder", "main", "spare")),
        ("ａｐｉ 怎么调用", (), "technical", ("coder", "main", "spare")),
        ("the capital of France is what", (), "english", ("west", "main", "spare")),
        ("看一下 REQ20260112 的进度", (), "ticket", ("coder", "main", "spare")),
        ("看一下 REQ12 的进度", (), "", ("main", "spare")),
        ("这是什么", (MediaPart("image/png", b"x"),), "vision", ("eyes", "main", "spare")),
        ("", (MediaPart("image/png", b"x"),), "vision", ("eyes", "main", "spare")),
        ("请" * 60, (), "essay", ("main", "spare")),
        ("今天食堂吃什么", (), "", ("main", "spare")),
    ],
)
async def test_the_first_rule_that_holds_chooses(
    text: str, parts: tuple[Part, ...], intent: str, models: tuple[str, ...]
) -> None:
    choice = await made(Sorter()).choose("default", ask(text, *parts), LONG)
    assert (choice.intent, choice.models) == (intent, models)


async def test_an_intent_brings_its_sampling() -> None:
    choice = await made(Sorter()).choose("default", ask("日志在哪里"), LONG)
    assert (choice.temperature, choice.max_output_tokens) == (0.2, 900)
    choice = await made(Sorter()).choose("default", ask("午饭"), LONG)
    assert (choice.temperature, choice.max_output_tokens) == (None, None)


async def test_the_caller_comes_first() -> None:
    observer = Counted()
    intents = made(Sorter(), observer)
    choice = await intents.choose("default", ask("VPN 报错", intent="creative"), LONG)
    assert (choice.intent, choice.models, choice.temperature) == ("creative", ("poet", "main", "spare"), 0.9)
    choice = await intents.choose("default", ask("VPN 报错", model="spare"), LONG)
    assert (choice.intent, choice.models) == ("technical", ("spare", "coder", "main"))
    assert observer.chosen == [("creative", "caller"), ("technical", "rule")]


async def test_the_classifier_chooses_where_no_rule_does() -> None:
    observer = Counted()
    sorter = Sorter(lambda question: ' "Creative". ' if "诗" in question else "I would say: support, not creative")
    intents = made(sorter, observer)
    assert (await intents.choose("default", ask("写一首诗"), LONG)).models == ("poet", "main", "spare")
    assert (await intents.choose("default", ask("怎么请假"), LONG)).intent == "support"
    assert observer.chosen == [("creative", "classifier"), ("support", "classifier")]
    first = sorter.prompts[0]
    assert first.aside, "it is no turn of its own"
    assert first.model == "small"
    assert first.temperature == 0.0
    assert first.patient
    system = first.messages[0].text
    assert "poems, slogans" in system
    assert "technical" not in system, "an intent without a sentence is not the classifier's to choose"


async def test_what_was_chosen_is_remembered_and_the_absence_of_a_choice_too() -> None:
    sorter = Sorter(lambda question: "support" if "请假" in question else "none")
    intents = made(sorter)
    for text in ("怎么请假？", "怎么请假？", "午饭", "午饭", "ＡＢＣ午饭", "abc午饭"):
        await intents.choose("default", ask(text), LONG)
    assert [prompt.messages[-1].text for prompt in sorter.prompts] == ["怎么请假？", "午饭", "ＡＢＣ午饭"]


@pytest.mark.parametrize("kind", list(ErrorClass))
async def test_a_classifier_that_fails_costs_nothing_but_its_choice(kind: ErrorClass) -> None:
    sorter = Sorter(lambda question: "support")
    sorter.error = ProviderError(kind, "broken")
    intents = made(sorter)
    assert (await intents.choose("default", ask("怎么请假"), LONG)).models == ("main", "spare")
    sorter.error = None
    assert (await intents.choose("default", ask("怎么请假"), LONG)).intent == "support", "failures are not remembered"


async def test_a_classifier_that_stalls_is_not_waited_for() -> None:
    sorter = Sorter(lambda question: "support")
    sorter.go = asyncio.Event()
    intents = made(sorter, classifier=ClassifierSettings(model="small", budget_seconds=0.01))
    assert (await intents.choose("default", ask("怎么请假"), LONG)).intent == ""


async def test_equal_questions_in_flight_share_a_call_and_one_who_leaves_takes_nothing_along() -> None:
    sorter = Sorter(lambda question: "support")
    sorter.go = asyncio.Event()
    intents = made(sorter, classifier=ClassifierSettings(model="small", budget_seconds=10))
    waiting = [asyncio.create_task(intents.choose("default", ask("怎么请假"), LONG)) for _ in range(3)]
    while not sorter.prompts:
        await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    sorter.go.set()
    assert [(await task).intent for task in waiting[1:]] == ["support", "support"]
    assert len(sorter.prompts) == 1


async def test_closing_ends_the_calls_under_way() -> None:
    sorter = Sorter()
    sorter.go = asyncio.Event()
    intents = made(sorter)
    waiting = asyncio.create_task(intents.choose("default", ask("怎么请假"), LONG))
    while not sorter.prompts:
        await asyncio.sleep(0)
    await intents.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_an_assistant_without_intents_asks_nobody() -> None:
    sorter, observer = Sorter(), Counted()
    choice = await made(sorter, observer).choose("plain", ask("VPN 报错"), LONG)
    assert choice.models == ("main",)
    assert not sorter.prompts
    assert not observer.chosen


def test_a_bad_pattern_names_its_field() -> None:
    entry = AssistantSettings(intents={"x": IntentSettings(patterns=("ok", "(?<=a)b"))})
    with pytest.raises(ValueError, match=r"^assistants\.default\.intents\.x\.patterns\[1\]: is not .*RE2"):
        Intents({"default": entry}, Sorter(), Unobserved())


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("怎么连接VPN", "zh"),
        ("How do I connect to the VPN", "en"),
        ("VPNの接続方法を教えてください", "ja"),
        ("休日出勤は", "ja"),
        ("「の」字在中文广告里很常见，为什么要这样写呢", "zh"),
        ("휴가 신청은 어떻게 하나요", "ko"),
        ("Как подключиться", "other"),
        ("12345 !!", "other"),
        ("", "other"),
        ("请把 quarterly revenue report 翻译成中文并且总结", "zh"),
    ],
)
def test_languages(text: str, language: str) -> None:
    assert language_of(text) == language
