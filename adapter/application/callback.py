"""Door 1: the callbacks of self-built applications (DOC 90238), at ``/wecom/app/{account}``.

A message is acknowledged with an empty answer, and its reply is sent later; what is known at
once and needs no model is said in the answer itself (:mod:`adapter.application.passive`), or
as a message where WeCom takes none there. So is that a message was not taken, when WeCom
will not come again with it.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

import structlog
from aiohttp import web

from adapter.access.admission import NotAllowed, Undecided
from adapter.application import passive
from adapter.application.translate import from_app_event, from_app_message
from adapter.callbacks.door import CalledDoor
from adapter.callbacks.gate import Gate, Opened, Rejected, Seal
from adapter.callbacks.last_delivery import LastDelivery
from adapter.callbacks.taking import Submit, Taking, Unfit
from adapter.cards import chosen_label
from adapter.greeting import Greeted
from adapter.metrics import Metrics
from adapter.text.render import clean, has_visible, plain
from adapter.translate import UNREACHABLE, Chosen, Greeting, Incoming, Silence
from adapter.wire import AppMessage, parse_message
from weconverse import WeConverseError

log = structlog.get_logger()

PATH: Final = "/wecom/app/{account}"

_NOT_ALLOWED: Final = "没有权限"
"""On a button that somebody touched who may not use the application."""


async def _say_nothing(_person: str) -> str:
    return ""


async def _tell_nobody(_person: str, _sentence: str) -> None:
    return


def _pass_over(_change_type: str, _user: str) -> None:
    return


class AppAccount(NamedTuple):
    """What the door needs of one application."""

    envelope: Seal
    submit: Submit
    agent_id: str = ""
    """Messages to another application are refused. Empty: not looked at."""
    tell: Callable[[str, str], Awaitable[None]] = _tell_nobody
    """Sends a person a sentence, where the answer to the callback cannot say it. Does not raise."""
    greeting: Callable[[str], Awaitable[str]] = _say_nothing
    """What the assistant says to a person who opens the chat; empty for silence. Raises ``WeConverseError``."""
    menu: Mapping[str, str] = {}
    """What a person says by touching an entry of the application's menu, by its key."""
    directory_changed: Callable[[str, str], None] = _pass_over
    """Hears what changed in the address book: the ``ChangeType``, and the UserID where it is about a member."""
    desk: Callable[[AppMessage], bool] | None = None
    """Takes events of customer service, where they come to the address of the application; says whether it was one."""


class AppDoor(CalledDoor[AppAccount]):
    """Answers the callbacks of all applications. Add :meth:`routes` to a web application."""

    def __init__(
        self,
        accounts: Mapping[str, AppAccount],
        gate: Gate,
        metrics: Metrics,
        *,
        submit_seconds: float = 3.5,
        pseudonym_key: bytes = b"",
    ) -> None:
        """Args: ``pseudonym_key`` as for ``adapter.translate.incoming``."""
        super().__init__(PATH, accounts, gate)
        self._taking = Taking(metrics, door="app", submit_seconds=submit_seconds)
        self._silence = metrics.messages.labels("app", "silence")
        self._hints = metrics.messages.labels("app", "hint")
        self._welcomed = metrics.messages.labels("app", "greeted")
        self._greeted = Greeted()
        self._refused = metrics.messages.labels("app", "refused")
        self._not_taken = metrics.messages.labels("app", "not_taken")
        self._last = LastDelivery()
        self._pseudonym_key = pseudonym_key

    async def _received(self, request: web.Request) -> web.Response:
        name, account = request.match_info["account"], self._account(request)
        opened = await self._gate.opened(request, account.envelope)
        message = parse_message(opened.plain)
        try:
            reply = await self._replied(name, account, message)
        except NotAllowed as refused:
            self._refused.inc()
            reply = await self._refusal(account, message, refused.sentence)
        except Unfit as unfit:
            reply = await self._told(account, message, unfit.sentence)
        except Undecided as undecided:
            if not self._is_last(name, message, opened):
                raise Rejected(503, "access") from None
            self._not_taken.inc()
            reply = await self._told(account, message, undecided.sentence)
        except Rejected as rejected:
            # What has files is offered to the service for a while yet (media/whole.py), and may still be answered.
            if (
                rejected.reason != "service"
                or message.fields.get("MediaId")
                or not self._is_last(name, message, opened)
            ):
                raise
            reply = await self._told(account, message, UNREACHABLE)
        if reply is None:
            return web.Response()
        return web.Response(body=passive.answer(reply, message, opened, account.envelope), content_type="text/xml")

    async def _replied(self, name: str, account: AppAccount, message: AppMessage) -> AppMessage | None:
        """Takes a message; what its callback is answered with, if anything is known at once."""
        meaning = self._meaning(name, account, message)
        if not isinstance(meaning, Silence):
            _check_agent(name, account, message)
        match meaning:
            case Incoming() as incoming:
                await self._taking.take(account.submit, incoming)
            case Chosen(incoming=incoming, said=said):
                await self._taking.take(account.submit, incoming)
                return passive.update_button(chosen_label(said))
            case Greeting(request_id=event_id):
                return await self._greeting(name, account, message.from_user, event_id)
            case Silence():
                if account.desk is not None and account.desk(message):
                    self._hints.inc()
                    return None
                self._silence.inc()
                if message.event == "change_contact":
                    account.directory_changed(message.fields.get("ChangeType", ""), message.fields.get("UserID", ""))
        return None

    def _is_last(self, name: str, message: AppMessage, opened: Opened) -> bool:
        """Whether WeCom will not come again with a message that was not taken."""
        return self._last.is_it(
            name,
            message.msg_id or f"{message.from_user} {message.event} {message.create_time}",
            written_at=message.create_time,
            delivered_at=int(opened.timestamp),
        )

    async def _refusal(self, account: AppAccount, message: AppMessage, sentence: str) -> AppMessage | None:
        """How somebody is told who may not use the application; who was told often enough is told nothing."""
        if message.event == "template_card_event" and sentence:
            return passive.update_button(_NOT_ALLOWED)
        return await self._told(account, message, sentence)

    async def _told(self, account: AppAccount, message: AppMessage, sentence: str) -> AppMessage | None:
        """Tells a person in the answer to the callback, which is returned, or else in a message of its own."""
        if not sentence or passive.takes_text(message.event):
            return passive.text(sentence) if sentence else None
        await account.tell(message.from_user, sentence)
        return None

    def _meaning(self, name: str, account: AppAccount, message: AppMessage) -> Incoming | Greeting | Chosen | Silence:
        if message.msg_type in ("event", ""):
            return from_app_event(name, message, account.menu, key=self._pseudonym_key)
        return from_app_message(name, message, key=self._pseudonym_key)

    async def _greeting(self, name: str, account: AppAccount, person: str, event_id: str) -> AppMessage | None:
        """The assistant's greeting, to who was not greeted yet today. Members enter an application many times a day."""
        if self._greeted.due(name, person, event_id):
            try:
                words = plain(clean(await account.greeting(person))).strip()
            except WeConverseError as error:
                # Nobody asked anything: who comes back later is greeted then.
                log.info("greeting_failed", account=name, why=error.reason or error.code.name)
                words = ""
            if has_visible(words):
                self._greeted.done(name, person, event_id)
                self._welcomed.inc()
                return passive.text(words)
        self._silence.inc()
        return None


def _check_agent(name: str, account: AppAccount, message: AppMessage) -> None:
    """Raises :class:`Rejected` for what was said to another application, which has the same keys."""
    if account.agent_id and message.agent_id and message.agent_id != account.agent_id:
        log.warning(
            "another_application",
            account=name,
            agent_id=message.agent_id,
            remedy="set its agent_id, or the callback address of that application, right",
        )
        raise Rejected(403, "agent")
