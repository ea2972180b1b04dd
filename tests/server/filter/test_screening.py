"""What a policy makes of words: for whole texts and streams, told without them."""

import pytest
from structlog.testing import capture_logs

from server.filter.base import Screened
from server.filter.entries import Action, Direction, Entry, Pattern
from server.filter.matcher import Prefixes
from server.filter.plain_matcher import PlainMatcher
from server.filter.policy import Policy, policies_of
from server.filter.screening import MAX_LOGGED, PASSING, ListScreener
from server.settings import AssistantSettings, FilterSettings, PolicySettings
from tests.server.filter.lists import SmallList

IN, OUT = Direction.INPUT, Direction.OUTPUT
SETTINGS = PolicySettings(
    input={"crime": "block", "ads": "replace", "staff": "hand_over"},
    output={"crime": "block", "ads": "mask", "staff": "pass"},
    replacement="（略）",
)


class Counts:
    def __init__(self) -> None:
        self.hits: list[tuple[Direction, str, Action]] = []

    def hit(self, direction: Direction, tag: str, action: Action) -> None:
        self.hits.append((direction, tag, action))

    def lexicon_loaded(self, entries: int, seconds: float) -> None: ...

    def lexicon_refused(self) -> None: ...


def words_of(*entries: Entry) -> SmallList:
    patterns = [Pattern(entry.word, (entry,)) for entry in entries]
    names = [entry.word for entry in entries]
    return SmallList(patterns, PlainMatcher(names), Prefixes(names))


WORDS = words_of(
    Entry("a:1", "走私", tag="crime"),
    Entry("a:2", "返现", tag="ads"),
    Entry("a:3", "投诉", tag="staff"),
    Entry("a:4", "抽奖", tag="other"),
    Entry("a:5", "内部价", tag="crime", action=Action.REPLACE, replacement="活动价"),
)


def screener(counts: Counts | None = None) -> ListScreener:
    return ListScreener(lambda: WORDS, {"default": Policy(SETTINGS)}, counts)


@pytest.mark.parametrize(
    ("text", "direction", "shown", "action"),
    [
        ("你好", IN, "你好", Action.PASS),
        ("怎么走私", IN, "怎么", Action.BLOCK),
        ("有返现吗", IN, "有（略）吗", Action.REPLACE),
        ("有返现吗", OUT, "有＊＊吗", Action.MASK),
        ("我要投诉", IN, "我要", Action.HAND_OVER),
        ("我要投诉", OUT, "我要投诉", Action.PASS),
        ("来抽奖", IN, "来抽奖", Action.FLAG),
        ("来抽奖", OUT, "来＊＊", Action.MASK),
        ("给个内部价", IN, "给个活动价", Action.REPLACE),
        ("先投诉再走私", IN, "先", Action.BLOCK),  # the strictest of the whole text
    ],
)
def test_whole_texts(text: str, direction: Direction, shown: str, action: Action) -> None:
    screened = screener().screening("default").check(text, direction)
    assert (screened.text, screened.action) == (shown, action)
    assert bool(screened.hits) == (action is not Action.PASS)


def test_a_stream_stops_before_anything_of_the_word_is_shown() -> None:
    stream = screener().screening("default").stream(OUT)
    answers = [stream.feed(character) for character in "有返现，能走私"]
    assert "".join(answer.text for answer in answers) == "有＊＊，能"
    assert [answer.action for answer in answers if answer.hits] == [Action.MASK, Action.BLOCK]
    assert answers[-1].action.stops


def test_a_stream_gives_the_rest_at_its_end() -> None:
    stream = screener().screening("default").stream(OUT)
    assert stream.feed("我要走").text == "我要"
    assert stream.close() == Screened("走")


def test_hits_are_told_by_tag_and_entry_and_never_with_the_text() -> None:
    counts = Counts()
    with capture_logs() as logs:
        screener(counts).screening("default").check("返现返现，走私", IN)
    assert counts.hits == [(IN, "ads", Action.REPLACE)] * 2 + [(IN, "crime", Action.BLOCK)]
    assert [(log["entry"], log["tag"], log["action"], log["direction"]) for log in logs] == [
        ("a:2", "ads", "replace", "input"),
        ("a:1", "crime", "block", "input"),
    ]
    assert not any("返现" in str(log) or "走私" in str(log) for log in logs)


def test_a_text_full_of_words_fills_no_log() -> None:
    many = words_of(*(Entry(f"m:{number}", f"词{number:03d}号") for number in range(60)))
    screening = ListScreener(lambda: many, {"default": Policy(SETTINGS)}).screening("default")
    with capture_logs() as logs:
        assert len(screening.check("，".join(f"词{number:03d}号" for number in range(60)), IN).hits) == 60
    assert len(logs) == MAX_LOGGED


def test_an_assistant_without_a_policy_is_not_looked_at() -> None:
    screening = screener().screening("other")
    assert screening is PASSING
    assert screening.check("走私", IN) == Screened("走私")
    stream = screening.stream(OUT)
    assert (stream.feed("走私"), stream.close()) == (Screened("走私"), Screened(""))


def test_policies_are_found_by_name() -> None:
    settings = FilterSettings(policies={"strict": SETTINGS})
    chosen = policies_of(
        settings, {"a": AssistantSettings(filter_policy="strict"), "b": AssistantSettings(filter_policy="")}
    )
    assert list(chosen) == ["a"]
    with pytest.raises(ValueError, match=r"^assistants\.c\.filter_policy: there is no policy 'lax'.*has strict"):
        policies_of(settings, {"c": AssistantSettings(filter_policy="lax")})


def test_every_action_of_the_settings_is_one() -> None:
    policy = Policy(PolicySettings(other_input="hand_over", other_output="pass"))
    assert policy.actions(IN)(Entry("e", "x")) is Action.HAND_OVER
    assert policy.actions(OUT)(Entry("e", "x")) is Action.PASS
    assert policy.replacement(Entry("e", "x")) == PolicySettings().replacement
