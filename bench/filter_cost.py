"""What looking for words costs a message, a piece of a reply, the first character; and what reloading stalls."""

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import grpc

from bench import calls, jobs, load
from bench.product import Product
from bench.rounds import Figure, Outcome, Setting, median
from server.filter.base import Overlay
from server.filter.building import Job, build
from server.filter.entries import Direction
from server.filter.lexicons import Lexicons
from server.filter.policy import Policy
from server.filter.screening import ListScreener, ListScreening
from server.filter.snapshot import Snapshot
from server.settings import FilterSettings, PolicySettings
from weconverse.v1 import conversation_pb2 as pb

_SIZES = (1_000, 100_000, 1_000_000)
_AIM_AT = 100_000
_AIM_SHARE = 5.0
_CALLS = 3000
_STREAMS = 200
_AT_A_TIME = 4
_BEAT_SECONDS = 0.001
_STREAM = "/weconverse.v1.ConversationService/StreamConverse"
_read = pb.StreamConverseResponse.FromString

_MESSAGE = (
    "请问公司的年假制度是怎么规定的，如果今年没有休完，可以结转到明年吗？"
    "另外病假需要提供医院的证明材料吗，谢谢您的回答！我们部门"
)
"""66 characters, 194 bytes."""

_COMMON = (
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经十三之进着等部度家电力里如水化高自二理起小物现实加量都"
    "两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那社义事平形相全表间样与关各重新线内数正心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想"
    "已通并提直题党程展五果料象员革位入常文总次品式活设及管特件长求老头基资边流路级少图山统接知较将组见计别她手角期根论运农指几九区强放决西被干做必战先回则任取据处队南给色光门即保治北造"
    "百规热领七海口东导器压志世金增争济阶油思术极交受联什认六共权收证改清己美再采转更单风切打白教速花带安场身车例真务具万每目至达走积示议声报斗完类八离华名确才科张信马节话米整空元况今集"
    "温传土许步群广石记需段研界拉林律叫且究观越织装影算低持音众书布复容儿须际商非验连断深难近矿千周委素技备半办青省列习响约支般史感劳便团往酸历市克何除消构府称太准精值号率族维划选标写存"
    "候毛亲快效斯院查江型眼王按格养易置派层片始却专状育厂京识适属圆包火住调满县局照参红细引听该铁价严"
)


def _words(count: int, source: random.Random) -> Iterator[str]:
    """Words of two to six characters that running text is full of beginnings of."""
    seen: set[str] = set()
    while len(seen) < count:
        word = "".join(source.choices(_COMMON, k=source.choice((2, 3, 3, 4, 4, 5, 6))))
        if word not in seen and word not in _MESSAGE:
            seen.add(word)
            yield word


def _list_of(folder: Path, count: int) -> Path:
    file = folder / f"{count}.txt"
    file.write_text("\n".join(_words(count, random.Random(count))) + "\n", encoding="utf-8")
    return file


def _screening(file: Path) -> ListScreening:
    compiled = build(Job((str(file),), 2_000_000, single_characters=False))
    snapshot = Snapshot(compiled, Overlay())
    found = ListScreener(lambda: snapshot, {"default": Policy(PolicySettings())}).screening("default")
    assert isinstance(found, ListScreening)
    return found


def _microseconds(work: Callable[[], object], count: int, rounds: int) -> float:
    """CPU time of one call, the median of rounds."""
    found = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(count):
            work()
        found.append((time.process_time() - began) / count * 1e6)
    return statistics.median(found)


def _message(screening: ListScreening) -> None:
    screening.check(_MESSAGE, Direction.INPUT)


def _pieces(screening: ListScreening) -> None:
    stream = screening.stream(Direction.OUTPUT)
    for start in range(0, len(_MESSAGE), 4):
        stream.feed(_MESSAGE[start : start + 4])
    stream.close()


def filter_cost(setting: Setting) -> Iterator[Outcome]:
    """A check of a message, of a piece, of the first character; and a reload beside a beating heart."""
    with calls.echo().started() as bare:
        results = [
            load.run(calls.unary(bare, setting.seconds, jobs.Answers(64, marked=False))) for _ in range(setting.rounds)
        ]
    converse = median([result.cpu_each for result in results]) * 1e6
    sizes = [max(100, round(size * setting.scale)) for size in _SIZES]
    pieces = -(-len(_MESSAGE) // 4)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        for full, size in zip(_SIZES, sizes, strict=True):
            screening = _screening(_list_of(folder, size))
            for what, work, parts in (("200-byte message", _message, 1), ("4-character piece", _pieces, pieces)):
                calls_made = setting.number(_CALLS) // parts + 1
                spent = _microseconds(partial(work, screening), calls_made, setting.rounds)
                yield Figure(
                    scenario=f"filter, {full:,} words",
                    name=f"{what}, share of a bare Converse",
                    value=spent / parts / converse * 100,
                    unit="%",
                    aim=_AIM_SHARE if full == _AIM_AT else None,
                    note=f"{spent / parts:.1f} µs of {converse:.0f}",
                )
        stall = asyncio.run(_reload_stall(_list_of(folder, sizes[-1])))
        yield Figure(
            scenario=f"filter, {_SIZES[-1]:,} words",
            name="longest stall while reloading",
            value=stall * 1e3,
            unit="ms",
            aim=50.0,
        )
        yield from _first_text(setting, _list_of(folder, sizes[1]))


async def _reload_stall(file: Path) -> float:
    """The longest that the event loop was late while the lists were read anew."""
    worst = 0.0

    async def beat() -> None:
        nonlocal worst
        while True:
            began = time.monotonic()
            await asyncio.sleep(_BEAT_SECONDS)
            worst = max(worst, time.monotonic() - began - _BEAT_SECONDS)

    async with Lexicons(FilterSettings(lists=(str(file),), max_words=2_000_000, reload_seconds=3600)) as lexicons:
        heart = asyncio.create_task(beat())
        await lexicons.reload()
        heart.cancel()
        await asyncio.gather(heart, return_exceptions=True)
    return worst


def _first_text(setting: Setting, words: Path) -> Iterator[Outcome]:
    """How much later the first character comes with the filter on, at the 99th percentile."""
    with Product(upstream=setting.upstream, filter_list=str(words)).started() as product:
        target = product.addresses["grpc"]
        found: dict[str, list[float]] = {"filtered": [], "open": []}
        for _ in range(setting.rounds):
            for name in random.sample(list(found), len(found)):
                count = max(8, setting.number(_STREAMS) // setting.rounds)
                found[name] += asyncio.run(_first_texts(target, f"assistants/paced-{name}", count))
    worst = {name: _percentile(values, 0.99) * 1e3 for name, values in found.items()}
    yield Figure(
        scenario=f"filter, {_AIM_AT:,} words",
        name="first character later by, p99",
        value=max(0.0, worst["filtered"] - worst["open"]),
        unit="ms",
        aim=5.0,
        note=f"{worst['filtered']:.1f} ms on, {worst['open']:.1f} ms off",
    )


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def _first_texts(target: str, assistant: str, count: int) -> list[float]:
    """Seconds from asking to the first text of each of so many streams."""
    places = asyncio.Semaphore(_AT_A_TIME)

    async def one(channel: grpc.aio.Channel, number: int) -> float:
        request = pb.ConverseRequest(
            conversation=f"conversations/first-{time.monotonic_ns()}-{number}",
            input=pb.Content(parts=[pb.Part(text=f"问题 {time.monotonic_ns()}")]),
            assistant=assistant,
        )
        async with places:
            began = time.monotonic()
            call = channel.unary_stream(_STREAM, pb.ConverseRequest.SerializeToString, _read)(request)
            async for event in call:
                if event.HasField("delta"):
                    waited = time.monotonic() - began
                    call.cancel()
                    return waited
        raise RuntimeError("a stream ended without text")

    async with grpc.aio.insecure_channel(target) as channel:
        return list(await asyncio.gather(*(one(channel, number) for number in range(count))))
