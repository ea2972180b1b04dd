"""How the platform calls an address: in order, each call on its own, with its patience and accidents (DOC 90238)."""

import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from typing import NamedTuple

import aiohttp
import msgspec

from simulator.clock import within
from simulator.corp import Corp
from simulator.faults import Strike
from simulator.journal import Kind


class Call(NamedTuple):
    """One request, sealed anew for every attempt."""

    query: Mapping[str, str]
    body: bytes
    content_type: str


class About(NamedTuple):
    """What a callback is about, for the journal."""

    chat: str
    person: str
    msg_id: str


class UrlCheck(msgspec.Struct, frozen=True):
    """The outcome of "save configuration" in the admin console."""

    passed: bool
    reason: str = ""


def new_nonce() -> str:
    """Ten digits, as the platform has them."""
    return str(secrets.randbelow(10**10)).zfill(10)


class Posting:
    """Posts callbacks and repeats them as the platform does. A context manager."""

    def __init__(self, corp: Corp) -> None:
        self._corp = corp
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Posting":
        # No proxies from the environment: the program is a neighbour.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=256), timeout=aiohttp.ClientTimeout(total=None), trust_env=False
        )
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def deliver(
        self,
        about: About,
        url: Callable[[], str],
        call: Callable[[], Call],
        answered: Callable[[Call, bytes], None],
        *,
        deliveries: int,
    ) -> None:
        """Delivers until it is acknowledged, or given up.

        Args:
            url: where it goes, asked for each delivery.
            call: seals it anew.
            answered: hears what each acknowledged call was answered with.
            deliveries: in total, the first included.
        """
        rules, journal = self._corp.rules, self._corp.journal
        if late := self._corp.strike("callback_reordered", **about._asdict()):
            await self._corp.clock.sleep(late.seconds)
        for number in range(1, deliveries + 1):
            began = self._corp.now
            failure = await self.attempt(about, url(), call(), answered)
            if not failure:
                journal.note(Kind.ACKNOWLEDGED, **about._asdict())
                if self._corp.strike("callback_duplicated", **about._asdict()):
                    await self.attempt(about, url(), call(), answered)
                return
            journal.note(Kind.FAILED, **about._asdict(), detail=f"第 {number} 次投递：{failure}")
            if number < deliveries:
                await self._corp.clock.sleep(max(0.0, began + rules.callback_interval_seconds - self._corp.now))
        journal.note(Kind.GIVEN_UP, **about._asdict(), detail="多次投递均未成功，平台不再重试")

    async def attempt(self, about: About, url: str, call: Call, answered: Callable[[Call, bytes], None]) -> str:
        """Posts once. The reason when the platform does not count it as accepted, else nothing."""
        if not url:
            return "未配置接收地址"
        if self._corp.strike("callback_lost", **about._asdict()):
            return "未送达"
        slow = self._corp.strike("callback_slow", **about._asdict())
        self._corp.journal.note(Kind.POSTED, **about._asdict())
        seconds = self._corp.rules.callback_seconds
        try:
            status, body = await within(self._corp.clock, seconds, self._post(url, call, slow))
        except TimeoutError:
            return f"{seconds:g} 秒内没有应答"
        except (aiohttp.ClientError, OSError) as error:
            return f"连接失败({type(error).__name__})"
        if self._corp.strike("callback_answer_lost", **about._asdict()):
            return "应答丢失"
        if status != 200:
            return f"应答 HTTP {status}"
        answered(call, body)
        return ""

    async def _post(self, url: str, call: Call, slow: Strike | None) -> tuple[int, bytes]:
        assert self._session is not None
        data = self._in_two(call.body, slow.seconds) if slow else call.body
        headers = {"Content-Type": call.content_type}
        async with self._session.post(
            url, params=call.query, data=data, headers=headers, allow_redirects=False
        ) as answer:
            return answer.status, await _bounded(answer, 32 << 20)

    async def _in_two(self, body: bytes, seconds: float) -> AsyncIterator[bytes]:
        middle = len(body) // 2
        yield body[:middle]
        await self._corp.clock.sleep(seconds)
        yield body[middle:]

    # --- "save configuration" ---

    async def check(self, url: str, call: Callable[[bytes], Mapping[str, str]]) -> UrlCheck:
        """The address check: the answer must be the decrypted number and nothing else, within a second.

        Args: ``call`` seals a number into the query of the check.
        """
        number = str(secrets.randbelow(9 * 10**18) + 10**18).encode()
        seconds = self._corp.rules.url_check_seconds
        try:
            status, body = await within(self._corp.clock, seconds, self._get(url, call(number)))
        except TimeoutError:
            return UrlCheck(False, f"{seconds:g} 秒内没有应答")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return UrlCheck(False, f"无法连接({type(error).__name__})")
        if status != 200:
            return UrlCheck(False, f"应答 HTTP {status}")
        if body != number:
            return UrlCheck(False, "应答内容不是解密后的明文")
        return UrlCheck(True)

    async def _get(self, url: str, query: Mapping[str, str]) -> tuple[int, bytes]:
        assert self._session is not None
        async with self._session.get(url, params=query, allow_redirects=False) as answer:
            return answer.status, await _bounded(answer)


async def _bounded(answer: aiohttp.ClientResponse, limit: int = 65536) -> bytes:
    """The body of an answer, as far as anybody would read it."""
    pieces = bytearray()
    async for piece in answer.content.iter_any():
        pieces += piece
        if len(pieces) > limit:
            break
    return bytes(pieces[:limit])
