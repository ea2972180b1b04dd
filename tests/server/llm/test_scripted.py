"""The demonstration model keeps the promises of a real one."""

from pathlib import Path

import pytest

from server.budget import Budget
from server.domain import FinishReason
from server.llm.base import ErrorClass, Image, Message, Prompt, Role
from server.llm.catalog import build_backends
from server.llm.openai.backend import OpenAiHttpProvider
from server.llm.script import SHIPPED, load_script
from server.llm.scripted import ScriptedProvider
from server.settings import ModelSettings
from tests.server.llm.reading import Taken, take

SCRIPT = """
[defaults]
answer = "没有脚本:{question}"

[[entries]]
words = ["年假", "VPN"]
answer = "第一条 {x} {question}"

[[entries]]
words = ["年假"]
answer = "第二条"

[[entries]]
words = ["想"]
answer = "好"
reasoning = "先想一想"

[[entries]]
words = ["断"]
answer = "一二三四五六七八"
cut = true

[[entries]]
words = ["忙"]
fail = "overloaded"

[[entries]]
words = ["慢"]
answer = "来了"
stall_seconds = 30
"""


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.naps: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


def asked(*texts: str, max_output_tokens: int | None = None) -> Prompt:
    """A prompt in which person and model take turns; the person has the last word."""
    roles = [Role.USER if (len(texts) - place) % 2 else Role.ASSISTANT for place in range(len(texts))]
    messages = [Message(Role.SYSTEM, "简洁"), *(Message(role, text) for role, text in zip(roles, texts, strict=True))]
    return Prompt("m", tuple(messages), max_output_tokens=max_output_tokens)


@pytest.fixture
def script_file(tmp_path: Path) -> Path:
    path = tmp_path / "script.toml"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def provider_for(path: Path, clock: Clock, pace: float = 0.0, first: float = 60.0) -> ScriptedProvider:
    settings = ModelSettings(protocol="scripted", tokens_per_second=pace, first_token_seconds=first)
    return ScriptedProvider("m", settings, load_script(path), sleep=clock.sleep)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("年假有几天", "第一条 {x} 年假有几天"),
        ("vpn 怎么连", "第一条 {x} vpn 怎么连"),
        ("别的 {问题}", "没有脚本:别的 {问题}"),
    ],
)
async def test_the_first_entry_that_matches_answers(script_file: Path, question: str, answer: str) -> None:
    taken, chunks = await take(provider_for(script_file, Clock()), prompt=asked(question))
    assert (taken.text, taken.finish) == (answer, FinishReason.STOP)
    assert [chunk.model for chunk in chunks] == ["m"]
    assert taken.usage is not None
    assert taken.usage.output_token_count > 0


async def test_it_knows_what_memory_hands_it(script_file: Path) -> None:
    provider = provider_for(script_file, Clock())

    async def answer(*texts: str) -> str:
        return (await take(provider, prompt=asked(*texts)))[0].text

    assert "李明" in await answer("我叫李明")
    assert "李明" in await answer("我叫李明,请记住", "好的", "年假?", "五天", "我叫什么?")
    assert "王芳" in await answer("我叫李明", "好的", "我的名字是王芳", "好的", "你记得我的名字吗")
    assert "还没有" in await answer("我叫什么名字")
    assert "年假有几天?" in await answer("年假有几天?", "五天", "我刚才说了什么")
    assert "第一句" in await answer("我刚才问了什么?")
    assert "李明" in await answer("张三:我叫李明", "好的", "张三:我叫什么")


async def test_pictures_are_told_apart_from_what_is_asked(tmp_path: Path) -> None:
    script = SCRIPT.replace("[defaults]", "[defaults]\npictures = '看到{pictures}'", 1)
    path = tmp_path / "script.toml"
    path.write_text(script, encoding="utf-8")
    pictures = (Image("image/png", b"1" * 2048), Image("image/jpeg", uri="https://example.com/a"))

    async def answer(script_file: Path, text: str, images: tuple[Image, ...]) -> str:
        prompt = Prompt("m", (Message(Role.USER, text, images),))
        return (await take(provider_for(script_file, Clock()), prompt=prompt))[0].text

    assert await answer(path, "", pictures) == "看到2 张图片（PNG 2.0 KB、JPEG）"
    assert await answer(path, "想", pictures[:1]) == "看到1 张图片（PNG 2.0 KB）\n\n好"
    assert await answer(path, "想", ()) == "好"
    (tmp_path / "silent.toml").write_text(SCRIPT, encoding="utf-8")
    assert await answer(tmp_path / "silent.toml", "想", pictures) == "好"


async def test_a_pace(script_file: Path) -> None:
    clock = Clock()
    taken, chunks = await take(provider_for(script_file, clock, pace=50), Budget(60, clock), asked("想"))
    assert (taken.text, taken.reasoning) == ("好", "先想一想")
    assert clock.naps == [0.02] * 3
    assert [bool(chunk.reasoning) for chunk in chunks] == [True, True, False, False]
    assert [chunk.model for chunk in chunks] == ["m", "", "", "m"]


async def test_a_fast_pace_gives_several_tokens_at_a_time() -> None:
    clock = Clock()
    provider = provider_for(SHIPPED, clock, pace=1000)
    taken, chunks = await take(provider, Budget(60, clock), asked("入职指南"))
    assert taken.complete
    assert len(chunks) < 200
    assert min(clock.naps) >= 0.01


async def test_the_cap_on_output(script_file: Path) -> None:
    provider = provider_for(script_file, Clock())
    taken, _ = await take(provider, prompt=asked("年假有几天", max_output_tokens=2))
    assert taken.finish is FinishReason.LENGTH
    assert taken.usage is not None
    assert taken.usage.output_token_count == 2


@pytest.mark.parametrize("pace", [0.0, 10.0])
async def test_played_failures(script_file: Path, pace: float) -> None:
    clock = Clock()
    provider = provider_for(script_file, clock, pace)
    assert (await take(provider, Budget(60, clock), asked("断")))[0] == Taken(
        "一二三四", "", None, None, ErrorClass.INCOMPLETE
    )
    assert (await take(provider, Budget(60, clock), asked("忙")))[0].error is ErrorClass.OVERLOADED
    assert (await take(provider, Budget(60, clock), asked("慢")))[0].text == "来了"


async def test_a_stall_is_bounded_like_that_of_a_real_model(script_file: Path) -> None:
    clock = Clock()
    impatient = provider_for(script_file, clock, first=5)
    assert (await take(impatient, Budget(60, clock), asked("慢")))[0].error is ErrorClass.TIMEOUT
    assert clock.now == 5
    assert (await take(provider_for(script_file, clock), Budget(7, clock), asked("慢")))[0].error is ErrorClass.TIMEOUT
    assert clock.now == 12


async def test_a_reply_ends_with_the_budget(script_file: Path) -> None:
    clock = Clock()
    taken, _ = await take(provider_for(script_file, clock, pace=1), Budget(2, clock), asked("年假有几天"))
    assert taken.error is ErrorClass.TIMEOUT
    assert taken.text
    assert clock.now <= 2


def test_the_script_that_ships() -> None:
    script = load_script(SHIPPED)
    plain = [entry for entry in script.entries if entry.fail is None and not entry.cut]
    assert len(plain) >= 12
    assert any("```" in entry.answer for entry in plain)
    assert any("|---|" in entry.answer for entry in plain)
    assert max(len(entry.answer.encode()) for entry in plain) > 6000
    assert "演示" in script.defaults.answer
    assert "{question}" in script.defaults.answer
    # Nothing stands behind an entry that takes all its questions.
    for entry in script.entries:
        for word in entry.words:
            assert script.entry_for(word) == entry, word


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[defaults]\nanswer = 'x'\n[[entries]]\nwords = []\n", "words"),
        ("[defaults]\nanswer = 'x'\n[[entries]]\nwords = ['a']\nansver = 'b'\n", "ansver"),
        ("[defaults]\nanswer = 'x'\n[[entries]]\nwords = ['a']\nfail = 'no such'\n", "fail"),
        ("no toml", "."),
    ],
)
def test_a_bad_script_names_the_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "script.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_script(path)
    with pytest.raises(ValueError, match=r"^models\.demo\.script_file: "):
        build_backends({"demo": ModelSettings(protocol="scripted", script_file=str(path))})


async def test_the_catalog() -> None:
    backends = build_backends(
        {
            "demo": ModelSettings(protocol="scripted", tokens_per_second=0),
            "real": ModelSettings(base_url="http://127.0.0.1:9/v1"),
        }
    )
    assert isinstance(backends["real"], OpenAiHttpProvider)
    taken, _ = await take(backends["demo"], prompt=Prompt("demo", (Message(Role.USER, "年假"),)))
    assert taken.complete
    taken, _ = await take(backends["real"], prompt=Prompt("real", (Message(Role.USER, "年假"),)))
    assert taken.error is ErrorClass.TRANSIENT
    for backend in backends.values():
        await backend.aclose()


def test_the_catalog_refuses_what_cannot_work() -> None:
    with pytest.raises(ValueError, match=r"^models\.real\.base_url: .*http"):
        build_backends({"real": ModelSettings()})
    with pytest.raises(ValueError, match=r"^models\.demo\.script_file: "):
        build_backends({"demo": ModelSettings(protocol="scripted", script_file="/does/not/exist.toml")})
