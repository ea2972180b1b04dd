from server.cache.base import CachedReply
from server.cache.inprocess import MAX_REPLY_BYTES, InProcessReplyCache
from server.domain import FinishReason


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def reply(text: str) -> CachedReply:
    return CachedReply(text, FinishReason.STOP, "m")


async def test_keeps_and_forgets_by_time() -> None:
    clock = Clock()
    cache = InProcessReplyCache(10, 60, clock)
    await cache.put(b"k", reply("一"))
    clock.now = 59
    assert await cache.get(b"k") == reply("一")
    clock.now = 61
    assert await cache.get(b"k") is None


async def test_the_least_recently_used_goes_first() -> None:
    cache = InProcessReplyCache(2, 60)
    await cache.put(b"a", reply("a"))
    await cache.put(b"b", reply("b"))
    await cache.get(b"a")
    await cache.put(b"c", reply("c"))
    assert await cache.get(b"b") is None
    assert await cache.get(b"a") == reply("a")


async def test_no_entries_no_cache() -> None:
    cache = InProcessReplyCache(0, 60)
    await cache.put(b"k", reply("一"))
    assert await cache.get(b"k") is None


async def test_large_replies_are_not_kept() -> None:
    cache = InProcessReplyCache(10, 60)
    await cache.put(b"large", reply("好" * (MAX_REPLY_BYTES // 3 + 1)))
    await cache.put(b"fits", reply("好" * (MAX_REPLY_BYTES // 3)))
    await cache.put(b"odd", reply("\ud83d"))
    assert await cache.get(b"large") is None
    assert await cache.get(b"fits") is not None
