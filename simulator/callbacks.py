"""Callbacks to self-built applications: signed, encrypted, delivered up to three times (DOC 90238).

Callbacks go out in the order in which they arise, but each on its own: two may overtake
each other, as they may from the platform.
"""

from xml.etree.ElementTree import Element

from defusedxml import DefusedXmlException
from defusedxml import ElementTree as Xml

from adapter.crypto import Envelope, EnvelopeError, Sealed
from adapter.wire import AppMessage, envelope_xml, message_xml
from simulator.chores import Chores
from simulator.corp import Corp
from simulator.journal import Kind
from simulator.passive import CannotRead, Passive
from simulator.posting import About, Call, Posting, UrlCheck, new_nonce
from simulator.settings import AppSettings

__all__ = ["URL_CHECK_CODE", "BacklogFull", "Callbacks", "UrlCheck"]

URL_CHECK_CODE = -30065
"""What the admin console shows when an address does not pass."""


class BacklogFull(Exception):
    """More callbacks are under way than the simulator keeps."""


class Callbacks:
    """Delivers the callbacks of all applications. A context manager."""

    def __init__(self, corp: Corp, replies: Passive) -> None:
        """Args: ``replies`` does what the answers to callbacks say."""
        self._corp = corp
        self._replies = replies
        self._chores = Chores()
        self._posting = Posting(corp)
        self.urls: dict[int, str] = {app.agent_id: app.callback_url for app in corp.settings.apps}

    async def __aenter__(self) -> "Callbacks":
        await self._posting.__aenter__()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        try:
            await self._chores.aclose()
        finally:
            await self._posting.__aexit__()

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
        return self._envelope(app).seal(plain, str(int(self._corp.now)), new_nonce())

    async def _deliver(self, app: AppSettings, message: AppMessage) -> None:
        # Each attempt is sealed with the keys of its moment, and so has to be its answer.
        keys: dict[str, AppSettings] = {}

        def call() -> Call:
            now = self._corp.granted[app.agent_id]
            sealed = self._call(now, message)
            keys[sealed.query["nonce"]] = now
            return sealed

        await self._posting.deliver(
            About(f"app:{app.agent_id}", message.from_user, message.msg_id),
            lambda: self.urls.get(app.agent_id, ""),
            call,
            lambda called, body: self._passive(keys[called.query["nonce"]], message, body),
            deliveries=self._corp.rules.callback_deliveries,
        )

    def _call(self, app: AppSettings, message: AppMessage) -> Call:
        sealed = self._seal(app, message_xml(message))
        body = envelope_xml(sealed, self._corp.settings.corp_id, str(app.agent_id))
        return Call(_query(sealed), body, "text/xml")

    # --- passive replies (DOC 90241) ---

    def _passive(self, app: AppSettings, message: AppMessage, body: bytes) -> None:
        """Shows an encrypted passive reply; an empty body or ``success`` means that there is none."""
        if not body.strip() or body.strip() == b"success":
            return
        try:
            task_id = message.fields.get("TaskId", "")
            self._replies.show(app, message.from_user, message.event, task_id, message.msg_id, self._opened(app, body))
        except CannotRead as error:
            self._corp.journal.note(
                Kind.IGNORED,
                chat=f"app:{app.agent_id}",
                person=message.from_user,
                msg_id=message.msg_id,
                detail=f"被动回复已忽略：{error}",
            )

    def _opened(self, app: AppSettings, body: bytes) -> Element:
        try:
            outer = Xml.fromstring(body)
            sealed = [outer.findtext(name, "") for name in ("MsgSignature", "TimeStamp", "Nonce", "Encrypt")]
            inner: Element = Xml.fromstring(self._envelope(app).open(*sealed))
        except (Xml.ParseError, DefusedXmlException, EnvelopeError):
            raise CannotRead("无法识别") from None
        return inner

    # --- "save configuration" ---

    async def check(self, app: AppSettings, url: str) -> UrlCheck:
        """The address check; see :meth:`simulator.posting.Posting.check`."""

        def call(number: bytes) -> dict[str, str]:
            sealed = self._seal(app, number)
            return _query(sealed) | {"echostr": sealed.encrypted}

        return await self._posting.check(url, call)


def _query(sealed: Sealed) -> dict[str, str]:
    return {"msg_signature": sealed.msg_signature, "timestamp": sealed.timestamp, "nonce": sealed.nonce}
