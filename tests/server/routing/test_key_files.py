"""Files of keys that change while the service runs."""

import asyncio
import os
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from program.secret import Secret
from server.budget import Budget
from server.llm.base import ErrorClass, ProviderError
from server.llm.catalog import build_backends
from server.routing.build import routing
from server.routing.key_files import MAX_FILE_BYTES, MAX_KEYS, KeyFile, KeyFiles, keys_in, read_key_file
from server.routing.keys import KeyPool, KeySource, QuotaGroup
from server.routing.router import Router
from server.settings import KeySettings, ModelSettings, RoutingSettings, Settings
from tests.server.llm.upstream import HEAD, SERVED, Request, serve
from tests.server.routing.played import Clock, Noted, as_asked, watch
from tests.server.routing.unlimited import Unlimited

SETTINGS = RoutingSettings()
DAY = 86400.0


def put(path: Path, *keys: str) -> None:
    """As mounted secrets are replaced: another file takes the name."""
    beside = path.with_suffix(".new")
    beside.write_text("\n".join(keys) + "\n", encoding="utf-8")
    beside.rename(path)


class Place:
    """A file, the pool that takes its keys from it, and who looks at it."""

    def __init__(self, path: Path, *keys: str, max_age_days: float = 0.0) -> None:
        self.path = path
        self.clock, self.observer, self.wall = Clock(), Noted(), 0.0
        put(path, *keys)
        self.pool = KeyPool("m", SETTINGS, self.observer.keys_usable)
        self.source = KeySource("api_key", str(path), 1.0, max_age_days)
        self.pool.add_source(self.source, QuotaGroup("g", SETTINGS), keys)
        self.files = KeyFiles(
            5.0, self.observer, clock=self.clock, wall_clock=lambda: self.wall, sleep=self.clock.sleep
        )
        self.files.add("m", self.pool, self.source)

    @property
    def keys(self) -> list[str]:
        return [key.secret.reveal() for key in self.pool.keys]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "key"


async def test_the_old_and_the_new_key_side_by_side(path: Path) -> None:
    place = Place(path, "old")
    before = place.pool.keys[0]
    put(path, "old", "new")
    await place.files.look()
    assert place.keys == ["old", "new"]
    assert place.pool.keys[0] is before
    put(path, "new")
    await place.files.look()
    assert place.keys == ["new"]
    assert place.observer.usable == {"m": 1}


async def test_a_change_in_place_with_the_same_time_and_size_is_seen(path: Path) -> None:
    place = Place(path, "aaa")
    status = path.stat()
    path.write_text("bbb\n", encoding="utf-8")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    await place.files.look()
    assert place.keys == ["bbb"]


async def test_a_link_that_moves_as_kubernetes_moves_it(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text(f"key-{name}")
    (tmp_path / "data").symlink_to(tmp_path / "1")
    linked = Place(tmp_path / "unused", "key-1")
    linked.source.path = str(tmp_path / "data" / "key")
    (tmp_path / "next").symlink_to(tmp_path / "2")
    (tmp_path / "next").rename(tmp_path / "data")
    await linked.files.look()
    assert linked.keys == ["key-2"]


@pytest.mark.parametrize("content", [b"", b" \n\n", b"\xff\xfe", b"k" * (MAX_FILE_BYTES + 1), None, "pipe", "folder"])
async def test_what_cannot_be_read_keeps_the_last_good_keys(path: Path, content: bytes | str | None) -> None:
    place = Place(path, "good")
    path.unlink()
    if content == "pipe":
        os.mkfifo(path)
    elif content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with capture_logs() as lines:
        for _ in range(5):
            await place.files.look()
    assert place.keys == ["good"]
    assert [line["event"] for line in lines] == ["model_key_file_unreadable"]
    assert place.observer.readable == {"api_key": False}
    if path.is_dir():
        path.rmdir()
    put(path, "better")
    await place.files.look()
    assert place.keys == ["better"]
    assert place.observer.readable == {"api_key": True}


def test_keys_of_a_file() -> None:
    assert keys_in("\ufeff".strip("\ufeff") + " a \r\n\n b\na\n") == ("a", "b")
    assert len(keys_in("\n".join(map(str, range(1000))))) == MAX_KEYS
    with pytest.raises(FileNotFoundError):
        read_key_file("/nonexistent/key")


async def test_a_changed_file_ends_the_rest_of_refused_keys(path: Path) -> None:
    place = Place(path, "one", "two")
    refused = place.pool.keys[0]
    place.pool.failed(refused, ProviderError(ErrorClass.AUTH, "no"), place.clock(), place.clock())
    await place.files.look()
    assert place.pool.usable(place.clock()) == 1, "the same file says nothing new"
    put(path, "one", "three")
    await place.files.look()
    assert place.pool.usable(place.clock()) == 2


async def test_age_is_measured_and_reported_once(path: Path) -> None:
    place = Place(path, "k", max_age_days=100.0)
    os.utime(path, (DAY, DAY))
    with capture_logs() as lines:
        for days in (1, 50, 90.9, 91.1, 95, 120):
            place.wall = days * DAY
            await place.files.look()
        assert place.observer.ages[place.pool.keys[0].name] == pytest.approx(1.19)
        put(path, "new")
        os.utime(path, (120 * DAY, 120 * DAY))
        await place.files.look()
        assert place.observer.ages[place.pool.keys[0].name] == 0
        place.wall = 215 * DAY
        await place.files.look()
    old = [line for line in lines if line["event"] == "model_key_old"]
    assert [line["age_share"] for line in old] == [0.9, 0.95]
    assert "new" not in str(lines)


async def test_of_a_key_that_was_taken_out_nothing_more_is_said(path: Path) -> None:
    place = Place(path, "old", "stays", max_age_days=10)
    await place.files.look()
    assert sorted(place.observer.ages) == sorted(key.name for key in place.pool.keys)
    put(path, "stays", "new")
    await place.files.look()
    assert sorted(place.observer.ages) == sorted(key.name for key in place.pool.keys)
    assert len(place.observer.ages) == 2


async def test_looks_come_at_intervals_and_never_on_the_loop(path: Path) -> None:
    place = Place(path, "k")
    looked = asyncio.Event()
    threads: list[threading.Thread] = []

    def read(path: str) -> KeyFile:
        threads.append(threading.current_thread())
        return read_key_file(path)

    async def sleep(seconds: float) -> None:
        place.clock.naps.append(seconds)
        if len(place.clock.naps) == 3:
            looked.set()
            await asyncio.Event().wait()

    files = KeyFiles(5.0, place.observer, clock=place.clock, sleep=sleep, read=read)
    files.add("m", place.pool, place.source)
    task = asyncio.create_task(files.watch())
    await looked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert place.clock.naps == [5.0] * 3
    assert len(threads) == 3
    assert threading.main_thread() not in threads


async def test_a_look_because_of_a_refusal_forgives_nothing(path: Path) -> None:
    place = Place(path, "old")
    place.pool.failed(place.pool.keys[0], ProviderError(ErrorClass.AUTH, "no"), place.clock(), place.clock())
    put(path, "old", "new")
    assert place.pool.look_again is not None
    await place.pool.look_again(Budget(5))
    chosen = {key.secret.reveal() for key in (place.pool.choose(place.clock()) for _ in range(4)) if key is not None}
    assert chosen == {"new"}


async def test_a_look_gives_up_with_the_budget(path: Path) -> None:
    place = Place(path, "old")
    free = threading.Event()

    def read(path: str) -> KeyFile:
        assert free.wait(20)
        return KeyFile(("new",), 0.0)

    files = KeyFiles(5.0, place.observer, clock=place.clock, sleep=place.clock.sleep, read=read)
    files.add("m", place.pool, place.source)
    assert place.pool.look_again is not None
    await place.pool.look_again(Budget(0.02))
    assert place.keys == ["old"]
    free.set()
    await files.look()
    assert place.keys == ["new"]


# --- rotation under load ----------------------------------------------------------------------


class Door:
    """A model server that knows which keys it lets in, and when it stopped to."""

    def __init__(self, *keys: str) -> None:
        self.keys = set(keys)
        self.served = 0
        self.refused = 0
        self.seen: set[str] = set()

    async def __call__(self, request: Request) -> None:
        key = (request.header("authorization") or "").removeprefix("Bearer ")
        self.seen.add(key)
        if key not in self.keys:
            self.refused += 1
            body = b'{"error":{"code":"invalid_api_key","message":"Incorrect API key provided: ' + key.encode() + b'"}}'
            await request.say(
                b"HTTP/1.1 401 No\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
            )
            return
        # Some are half way when their key goes out of use.
        await request.say(HEAD)
        await asyncio.sleep(0)
        await request.say(SERVED.removeprefix(HEAD))
        self.served += 1


@pytest.mark.parametrize("overlap", [True, False], ids=["both valid for a time", "at once"])
async def test_rotation_under_load_fails_no_turn(path: Path, overlap: bool) -> None:
    put(path, "old-key")
    door = Door("old-key")
    stop = asyncio.Event()
    looks: asyncio.Queue[None] = asyncio.Queue()

    async def look_when_told(seconds: float) -> None:
        await looks.get()

    async def person(router: Router) -> int:
        turns = 0
        while not stop.is_set():
            shown = await watch(router, budget=Budget(20))
            assert shown.error is None, shown.error
            assert shown.text == "你好"
            turns += 1
        return turns

    async with serve(door) as upstream:
        model = ModelSettings(
            base_url=upstream.url, keys=(KeySettings(secret=Secret("old-key", f"file:{path}")),), model="m"
        )
        settings = Settings(models={"a": model})
        with capture_logs() as lines:
            async with routing(
                settings,
                build_backends(settings.models),
                Unlimited(),
                Noted(),
                takes={"a": lambda prompt: True},
                most_output={"a": as_asked},
                sleep=look_when_told,
            ) as router:
                people = [asyncio.create_task(person(router)) for _ in range(8)]
                await _served(door, 50)
                if overlap:
                    door.keys.add("new-key")
                    put(path, "old-key", "new-key")
                    looks.put_nowait(None)
                    await _served(door, 150)
                    put(path, "new-key")
                    looks.put_nowait(None)
                    await _served(door, 250)
                    door.keys.discard("old-key")
                else:
                    put(path, "new-key")
                    door.keys = {"new-key"}
                await _served(door, 350)
                stop.set()
                assert sum(await asyncio.gather(*people)) >= 350
    assert door.seen == {"old-key", "new-key"}
    if overlap:
        assert door.refused == 0
    else:
        assert 1 <= door.refused <= 8
    assert sum(line["event"] == "model_key_refused" for line in lines) == int(not overlap)
    assert "old-key" not in str(lines)
    assert "new-key" not in str(lines)


async def _served(door: Door, count: int) -> None:
    count += door.served
    while door.served < count:
        await asyncio.sleep(0.001)
