"""Lists in use: read in a thread or beside the service, watched, refused, changed, and swapped as one."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from server.budget import Budget
from server.errors import InvalidField, LexiconRefused
from server.filter.automaton import is_installed
from server.filter.base import ListedEntry, Origin, Overlay, Why
from server.filter.building import BuildFailed, Job, build, build_lists, load, save
from server.filter.compiled import Compiled
from server.filter.entries import Action, Direction, Entry
from server.filter.lexicons import Lexicons
from server.filter.list_files import FileState, find_lists
from server.filter.list_rows import ListError
from server.filter.word_stream import Words, WordStream
from server.settings import FilterSettings


class Observed:
    def __init__(self) -> None:
        self.loaded: list[int] = []
        self.refused = 0

    def hit(self, direction: Direction, tag: str, action: Action) -> None: ...

    def lexicon_loaded(self, entries: int, seconds: float) -> None:
        self.loaded.append(entries)

    def lexicon_refused(self) -> None:
        self.refused += 1


class Turns:
    """Lets the watch look once for each :meth:`let_look`, and tells when it has."""

    def __init__(self) -> None:
        self._go = asyncio.Semaphore(0)
        self._waiting = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        assert seconds == 5
        self._waiting.set()
        await self._go.acquire()

    async def let_look(self) -> None:
        await self._waiting.wait()
        self._waiting.clear()
        self._go.release()
        await self._waiting.wait()


def ids(words: Words, text: str) -> list[str]:
    return [hit.entry.id for hit in WordStream(words, Direction.INPUT).close(text).hits]


def write(path: Path, text: str) -> None:
    """As a careful administrator does it."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.rename(path)


@pytest.fixture
async def turns() -> Turns:
    return Turns()


@pytest.fixture
def observed() -> Observed:
    return Observed()


@pytest.fixture
async def lexicons(tmp_path: Path, turns: Turns, observed: Observed) -> AsyncIterator[Lexicons]:
    write(tmp_path / "ads.txt", "返现\n刷单\n")
    settings = FilterSettings(lists=(str(tmp_path),))
    async with Lexicons(settings, observed, sleep=turns.sleep) as opened:
        yield opened


async def test_a_changed_list_is_taken_and_streams_keep_theirs(
    lexicons: Lexicons, turns: Turns, observed: Observed, tmp_path: Path
) -> None:
    begun = WordStream(lexicons.words(), Direction.OUTPUT)
    version = lexicons.current.version
    write(tmp_path / "ads.txt", "套现\n")
    await turns.let_look()
    assert ids(lexicons.words(), "返现，套现") == ["ads.txt:1"]
    assert [hit.entry.word for hit in begun.close("返现，套现").hits] == ["返现"]
    assert observed.loaded == [2, 1]
    assert lexicons.current.version != version
    write(tmp_path / "more.txt", "走私\n")
    await turns.let_look()
    (tmp_path / "ads.txt").unlink()
    await turns.let_look()
    assert ids(lexicons.words(), "返现，套现，走私") == ["more.txt:1"]


async def test_an_unchanged_list_is_not_read_again(lexicons: Lexicons, turns: Turns, observed: Observed) -> None:
    before = lexicons.current
    await turns.let_look()
    assert lexicons.current is before
    assert observed.loaded == [2]


async def test_a_bad_list_changes_nothing_and_is_told_once(
    lexicons: Lexicons, turns: Turns, observed: Observed, tmp_path: Path
) -> None:
    write(tmp_path / "ads.txt", "套现\n★\n")
    with capture_logs() as logs:
        await turns.let_look()
        await turns.let_look()
    assert ids(lexicons.words(), "返现，套现") == ["ads.txt:1"]
    assert observed.refused == 1
    assert [log["reason"].split(":")[:2] for log in logs] == [["ads.txt", "2"]]
    write(tmp_path / "ads.txt", "套现\n")
    await turns.let_look()
    assert ids(lexicons.words(), "套现") == ["ads.txt:1"]


async def test_a_list_that_is_gone_changes_nothing(lexicons: Lexicons, turns: Turns, tmp_path: Path) -> None:
    tmp_path.rename(tmp_path.with_name("elsewhere"))
    await turns.let_look()
    assert ids(lexicons.words(), "返现") == ["ads.txt:1"]
    with pytest.raises(LexiconRefused, match="cannot be read: No such file"):
        await lexicons.reload()


async def test_asked_to_reload_it_says_what_is_wrong(lexicons: Lexicons, tmp_path: Path) -> None:
    write(tmp_path / "ads.txt", "套现\n★\n")
    with pytest.raises(LexiconRefused) as caught:
        await lexicons.reload()
    assert caught.value.metadata == {"file": "ads.txt", "line": "2"}
    write(tmp_path / "ads.txt", "套现\n刷单\n走私\n")
    assert (await lexicons.reload()).entries == 3


async def test_without_usable_lists_nothing_starts(tmp_path: Path) -> None:
    (tmp_path / "ads.txt").write_text("★")
    with pytest.raises(ValueError, match=r"^filter\.lists: ads\.txt:1: word: has no letter"):
        await Lexicons(FilterSettings(lists=(str(tmp_path),))).__aenter__()


async def test_a_failed_build_is_tried_again(tmp_path: Path, turns: Turns, observed: Observed) -> None:
    write(tmp_path / "ads.txt", "返现\n")
    fails = [False, True, True, False]

    async def shaky(files: Sequence[FileState], job: Job, budget: Budget) -> Compiled:
        if fails.pop(0):
            raise BuildFailed("the process that builds the lists ended with -9")
        return await build_lists(files, job, budget)

    async with Lexicons(FilterSettings(lists=(str(tmp_path),)), observed, build=shaky, sleep=turns.sleep) as lexicons:
        write(tmp_path / "ads.txt", "套现\n")
        for expected in ([], [], ["ads.txt:1"]):
            await turns.let_look()
            assert ids(lexicons.words(), "套现") == expected
    assert observed.refused == 1


async def test_a_bad_list_is_read_once(tmp_path: Path, turns: Turns) -> None:
    write(tmp_path / "ads.txt", "返现\n")
    builds = 0

    async def counted(files: Sequence[FileState], job: Job, budget: Budget) -> Compiled:
        nonlocal builds
        builds += 1
        return await build_lists(files, job, budget)

    async with Lexicons(FilterSettings(lists=(str(tmp_path),)), build=counted, sleep=turns.sleep):
        write(tmp_path / "ads.txt", "★\n")
        for _ in range(3):
            await turns.let_look()
    assert builds == 2


def added(word: str, *, allows: bool = False) -> ListedEntry:
    return ListedEntry(Entry(f"added:{word}", word), word, Origin.ADDED, allows)


async def test_changes_lie_over_the_lists_and_survive_a_reload(lexicons: Lexicons) -> None:
    plain = lexicons.current.version
    overlay = Overlay((added("走私"), added("抽返现金", allows=True), added("返现金")), frozenset({"刷单"}))
    assert (await lexicons.lay_over(overlay)).entries == 4
    for _ in range(2):
        assert ids(lexicons.words(), "走私，刷单，返现") == ["added:走私", "ads.txt:1"]
        assert ids(lexicons.words(), "抽返现金") == []
        assert ids(lexicons.words(), "要返现金") == ["added:返现金"]
        assert [each.entry.id for each in lexicons.listed()] == ["ads.txt:1"]
        assert lexicons.current.version != plain
        await lexicons.reload()
    stream = WordStream(lexicons.words(), Direction.INPUT)
    assert stream.feed("他走").text == "他"
    await lexicons.lay_over(Overlay())
    assert lexicons.current.version == plain
    assert ids(lexicons.words(), "走私，刷单") == ["ads.txt:2"]


async def test_entries_are_checked_like_lines_of_a_list(lexicons: Lexicons) -> None:
    lexicons.check(added("走私"))
    for entry, field in (
        (Entry("x", "★"), "word"),
        (Entry("x", "走私", tag="a b"), "tag"),
        (Entry("x", "走私", level=101), "level"),
        (Entry("x", "走私", replacement="x" * 65), "replacement"),
    ):
        with pytest.raises(InvalidField) as caught:
            lexicons.check(ListedEntry(entry, "x"))
        assert caught.value.field == field


async def test_a_text_is_tried_with_reasons(lexicons: Lexicons, tmp_path: Path) -> None:
    write(
        tmp_path / "ads.csv",
        "word,direction,allow,boundary\nbet,,\n㎏a,,\nga,,\n反洗钱,,yes\n洗钱,,,any\n走私,output,\n刷单,,\n",
    )
    (tmp_path / "ads.txt").unlink()
    await lexicons.reload()
    tried = lexicons.occurrences("better，㎏a，反洗钱，走私，印刷单位，刷，单，洗钱", Direction.INPUT)
    assert [(each.entry.word, each.why) for each in tried] == [
        ("bet", Why.GOES_ON),
        ("㎏a", Why.MEANT),
        ("ga", Why.PART_OF_A_CHARACTER),
        ("洗钱", Why.ALLOWED),
        ("走私", Why.OTHER_DIRECTION),
        ("刷单", Why.NOT_A_WORD),
        ("刷单", Why.GAP),
        ("洗钱", Why.MEANT),
    ]


@pytest.mark.parametrize("plain", [False, True])
async def test_beside_the_service_it_is_built_the_same(tmp_path: Path, plain: bool) -> None:
    (tmp_path / "a.csv").write_text("word,tag,action\n代開,x,block\n𠮷野,y,\n\udc80".encode("utf-8", "ignore").decode())
    (tmp_path / "b.txt").write_text("代开发票\n代开\n" + "".join(f"词{number}\n" for number in range(100, 200)))
    files = find_lists([str(tmp_path)])
    job = Job(tuple(file.path for file in files), 1000, single_characters=False, plain=plain)
    beside = await build_lists(files, job, Budget(60), max_in_thread=0)
    here = build(job)
    assert beside.save() == here.save()
    assert bool(here.save().automaton) == (is_installed() and not plain)
    text = "他代开发票，词150，𠮷野家"
    assert beside.matcher.matches(text) == here.matcher.matches(text)
    assert [beside.pattern(number) for number in range(len(here))] == [here.pattern(n) for n in range(len(here))]
    assert beside.prefixes.first_live("代开", 0) == 0
    with pytest.raises(ListError, match=r"^a\.csv:2: is word"):
        (tmp_path / "a.csv").write_text("word\n代开\n")
        await build_lists(files, Job(job.paths, 0, single_characters=False), Budget(60), max_in_thread=0)


async def test_a_process_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("代开\n")
    files = find_lists([str(tmp_path)])
    job = Job((files[0].path,), 10, single_characters=False)
    with pytest.raises(BuildFailed, match="took too long"):
        await build_lists(files, job, Budget(0), max_in_thread=0)


def test_saved_lists_are_loaded_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("代开\n")
    compiled = build(Job((str(tmp_path / "a.txt"),), 10, single_characters=False))
    save(compiled, tmp_path / "saved")
    assert (tmp_path / "saved").stat().st_size > 0
    assert load(tmp_path / "saved").save() == compiled.save()


def test_no_lists_are_lists_too() -> None:
    compiled = build(Job((), 10, single_characters=False))
    assert ids(compiled, "代开") == []
    assert (len(compiled), compiled.rows) == (0, 0)
