"""Callbacks to self-built applications: signed, encrypted, delivered up to three times (DOC 90238).

Callbacks go out in the order in which they arise, but each on its own: two may overtake
each other, as they may from the platform.
"""

import secrets
from collections.abc import AsyncIterator

import aiohttp
import msgspec
from defusedxml import DefusedXmlException
from defusedxml import ElementTree as Xml

from adapter.crypto import Envelope, EnvelopeError, Sealed
from adapter.wire import AppMessage, envelope_xml, message_xml
from simulator.chats import cut
from simulator.chores import Chores
from simulator.clock import within
from simulator.corp import Corp
from simulator.faults import Strike
from simulator.journal import Kind
from simulator.settings import AppSettings

URL_CHECK_CODE = -30065
"""What the admin console shows when an address does not pass."""


class BacklogFull(Exception):
    """More callbacks are under way than the simulator keeps."""


class UrlCheck(msgspec.Struct, frozen=True):
    """The outcome of "save configuration" in the admin console."""

    passed: bool
    reason: str = ""


class Callbacks:
    """Posts callbacks and repeats them as the platform does. A context manager."""

    def __init__(self, corp: Corp) -> None:
        self._corp = corp
        self._chores = Chores()
        self._session: aiohttp.ClientSession | None = None
        self.urls: dict[int, str] = {app.agent_id: app.callback_url for app in corp.settings.apps}

    async def __aenter__(self) -> "Callbacks":
        # No proxies from the environment: the application is a neighbour.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=256), timeout=aiohttp.ClientTimeout(total=None), trust_env=False
        )
        return self

    async def __aexit__(self, *_exc: object) -> None:
        try:
            await self._chores.aclose()
        finally:
            if self._session is not None:
                await self._session.close()

    @property
    def under_way(self) -> int:
        """Callbacks that are neither acknowledged nor given up."""
        return len(self._chores)

    def post(self, app: AppSettings, message: AppMessage) -> None:
        """Begins to deliver a message or an event.

        Raises:
            BacklogFull: too many are under way.
        """
        if len(self._chores) >= self._corp.settings.bounds.backlog:
            raise BacklogFull(f"{len(self._chores)} callbacks are under way")
        self._chores.start(self._deliver(app, message))

    def _envelope(self, app: AppSettings) -> Envelope:
        return Envelope(app.token.reveal(), app.encoding_aes_key.reveal(), self._corp.settings.corp_id)

    def _seal(self, app: AppSettings, plain: bytes) -> Sealed:
        """Every delivery has a time, a nonce and random bytes of its own."""
        nonce = str(secrets.randbelow(10**10)).zfill(10)
        return self._envelope(app).seal(plain, str(int(self._corp.now)), nonce)

    async def _deliver(self, app: AppSettings, message: AppMessage) -> None:
        chat, person, msg_id = f"app:{app.agent_id}", message.from_user, message.msg_id
        rules, journal = self._corp.rules, self._corp.journal
        if late := self._corp.strike("callback_reordered", chat=chat, person=person, msg_id=msg_id):
            await self._corp.clock.sleep(late.seconds)
        for number in range(1, rules.callback_deliveries + 1):
            began = self._corp.now
            failure = await self._attempt(app, message)
            if not failure:
                journal.note(Kind.ACKNOWLEDGED, chat=chat, person=person, msg_id=msg_id)
                if self._corp.strike("callback_duplicated", chat=chat, person=person, msg_id=msg_id):
                    await self._attempt(app, message)
                return
            journal.note(Kind.FAILED, chat=chat, person=person, msg_id=msg_id, detail=f"第 {number} 次投递：{failure}")
            if number < rules.callback_deliveries:
                await self._corp.clock.sleep(max(0.0, began + rules.callback_interval_seconds - self._corp.now))
        journal.note(Kind.GIVEN_UP, chat=chat, person=person, msg_id=msg_id, detail="多次投递均未成功，平台不再重试")

    async def _attempt(self, app: AppSettings, message: AppMessage) -> str:
        """Posts once. The reason when the platform does not count it as accepted, else nothing."""
        chat, person, msg_id = f"app:{app.agent_id}", message.from_user, message.msg_id
        url = self.urls.get(app.agent_id, "")
        if not url:
            return "未配置接收地址"
        if self._corp.strike("callback_lost", chat=chat, person=person, msg_id=msg_id):
            return "未送达"
        slow = self._corp.strike("callback_slow", chat=chat, person=person, msg_id=msg_id)
        self._corp.journal.note(Kind.POSTED, chat=chat, person=person, msg_id=msg_id)
        try:
            status, body = await within(
                self._corp.clock, self._corp.rules.callback_seconds, self._post(url, app, message, slow)
            )
        except TimeoutError:
            return f"{self._corp.rules.callback_seconds:g} 秒内没有应答"
        except (aiohttp.ClientError, OSError) as error:
            return f"连接失败({type(error).__name__})"
        if self._corp.strike("callback_answer_lost", chat=chat, person=person, msg_id=msg_id):
            return "应答丢失"
        if status != 200:
            return f"应答 HTTP {status}"
        self._passive(app, message, body)
        return ""

    async def _post(self, url: str, app: AppSettings, message: AppMessage, slow: Strike | None) -> tuple[int, bytes]:
        assert self._session is not None
        sealed = self._seal(app, message_xml(message))
        query = {"msg_signature": sealed.msg_signature, "timestamp": sealed.timestamp, "nonce": sealed.nonce}
        body = envelope_xml(sealed, self._corp.settings.corp_id, str(app.agent_id))
        data = self._in_two(body, slow.seconds) if slow else body
        headers = {"Content-Type": "text/xml"}
        async with self._session.post(url, params=query, data=data, headers=headers, allow_redirects=False) as answer:
            return answer.status, await _bounded(answer)

    async def _in_two(self, body: bytes, seconds: float) -> AsyncIterator[bytes]:
        middle = len(body) // 2
        yield body[:middle]
        await self._corp.clock.sleep(seconds)
        yield body[middle:]

    # --- passive replies (DOC 90241) ---

    def _passive(self, app: AppSettings, message: AppMessage, body: bytes) -> None:
        """Shows an encrypted passive reply; an empty body or ``success`` means that there is none."""
        if not body.strip() or body.strip() == b"success":
            return
        chat, person = f"app:{app.agent_id}", message.from_user
        text = self._passive_text(app, body)
        if text is None:
            self._corp.journal.note(
                Kind.IGNORED, chat=chat, person=person, msg_id=message.msg_id, detail="被动回复无法识别，已忽略"
            )
            return
        shown, lost = cut(text, self._corp.rules.passive_text_bytes)
        self._corp.chats.post(
            chat=chat,
            person=person,
            speaker=chat,
            text=shown,
            now=self._corp.now,
            answers=message.msg_id,
            lost_bytes=lost,
        )
        self._corp.journal.note(Kind.SHOWN, chat=chat, person=person, msg_id=message.msg_id)

    def _passive_text(self, app: AppSettings, body: bytes) -> str | None:
        try:
            outer = Xml.fromstring(body)
            sealed = [outer.findtext(name, "") for name in ("MsgSignature", "TimeStamp", "Nonce", "Encrypt")]
            inner = Xml.fromstring(self._envelope(app).open(*sealed))
        except (Xml.ParseError, DefusedXmlException, EnvelopeError):
            return None
        content = inner.findtext("Content")
        return content if inner.findtext("MsgType") == "text" and content else None

    # --- "save configuration" ---

    async def check(self, app: AppSettings, url: str) -> UrlCheck:
        """The address check: the answer must be the decrypted number and nothing else, within a second."""
        number = str(secrets.randbelow(9 * 10**18) + 10**18)
        sealed = self._seal(app, number.encode())
        query = {
            "msg_signature": sealed.msg_signature,
            "timestamp": sealed.timestamp,
            "nonce": sealed.nonce,
            "echostr": sealed.encrypted,
        }
        try:
            status, body = await within(self._corp.clock, self._corp.rules.url_check_seconds, self._get(url, query))
        except TimeoutError:
            return UrlCheck(False, f"{self._corp.rules.url_check_seconds:g} 秒内没有应答")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return UrlCheck(False, f"无法连接({type(error).__name__})")
        if status != 200:
            return UrlCheck(False, f"应答 HTTP {status}")
        if body != number.encode():
            return UrlCheck(False, "应答内容不是解密后的明文")
        return UrlCheck(True)

    async def _get(self, url: str, query: dict[str, str]) -> tuple[int, bytes]:
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
