"""Messages that programs of the company send of their own accord, through a channel.

A push is a turn that nobody asked for: it has an end from the beginning, so it is written
once, and from then on it is a debt like any other (``deliveries.py``).
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from server.budget import Budget
from server.domain import (
    Ask,
    Content,
    DeliveryState,
    FinishReason,
    Owed,
    Part,
    Push,
    TextPart,
    Turn,
    TurnName,
    TurnState,
)
from server.errors import InvalidField, Overloaded, RequestIdReused, StoreUnavailable
from server.filter.entries import Direction
from server.logged_names import logged_name
from server.settings import DeliverySettings
from server.store.base import StoredTurn
from server.turn.accepting import Accepting
from server.turn.admission import Admission
from server.turn.assistants import Assistants
from server.turn.debts import Debts
from server.turn.deliveries import Deliveries
from server.turn.media_door import digest_of, inline_bytes
from server.turn.stations import Stations

_log = structlog.get_logger()

_RETRY_AFTER_SECONDS: Final = 30.0
"""What a caller is told to wait while too many messages wait for a channel: about the time a channel needs to
come back."""


class Pushes:
    """Takes messages on, and hands them to the deliveries."""

    def __init__(
        self,
        settings: DeliverySettings,
        admission: Admission,
        assistants: Assistants,
        stations: Stations,
        debts: Debts,
        deliveries: Deliveries,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Args: ``clock`` gives POSIX seconds."""
        self._settings = settings
        self._admission = admission
        self._assistants = assistants
        self._stations = stations
        self._debts = debts
        self._deliveries = deliveries
        self._clock = clock
        self._accepting = Accepting()
        self._coming: Counter[str] = Counter()
        self._coming_bytes: Counter[str] = Counter()

    async def push(self, push: Push, budget: Budget) -> Turn:
        """Takes on a message: when this returns, it is on disk and owed.

        A caller that gives up halfway changes nothing, as with :meth:`server.turn.debts.Debts.submit`.
        """
        return await self._accepting.run(self._take_on(push, budget))

    async def aclose(self, seconds: float) -> None:
        """As :meth:`server.turn.accepting.Accepting.aclose`."""
        await self._accepting.aclose(seconds)

    async def _take_on(self, push: Push, budget: Budget) -> Turn:
        name = TurnName(push_conversation(push.account, push.recipient), push.request_id)
        said = await digest_of(push.content)
        stored = await self._stations.store.find(name)
        if stored is None:
            stored = await self._accept(name, push, said, budget)
        if stored.turn.pushed is None or stored.input_digest != said:
            raise RequestIdReused(str(name))
        if stored.turn.delivery_state is DeliveryState.OWED:
            self._deliveries.add(stored)
        return stored.turn

    async def _accept(self, name: TurnName, push: Push, said: bytes, budget: Budget) -> StoredTurn:
        self._admission.check_open()
        self._admission.check_characters(push.content)
        assistant = self._assistants.get(push.assistant)
        size = inline_bytes(push.content)
        self._check_room(push.account, size)
        self._coming[push.account] += 1
        self._coming_bytes[push.account] += size
        try:
            content = await self._screened(push.content, assistant.name, budget)
            now = self._clock()
            turn = Turn(
                name=name,
                state=TurnState.SUCCEEDED,
                input=Content(),
                create_time=now,
                end_time=now,
                reply=content.text,
                pushed=content,
                finish_reason=FinishReason.STOP,
            )
            channel = push.account.split("/")[1]
            ask = Ask(name, Content(), True, assistant.name, channel=channel, caller=push.caller)
            accepted = await self._stations.store.accept(
                ask,
                Owed(push.account, recipient=push.recipient),
                time=now,
                claim=False,
                final=turn,
                input_digest=said,
            )
        except StoreUnavailable:
            self._debts.look_again()  # it may have been written all the same
            raise
        finally:
            self._coming[push.account] -= 1
            self._coming_bytes[push.account] -= size
            if not self._coming[push.account]:
                del self._coming[push.account], self._coming_bytes[push.account]
        if accepted.created:
            self._stations.observer.pushed()
            _log.info("push_accepted", account=push.account, caller=push.caller, **logged_name(name))
        return accepted.stored

    def _check_room(self, account: str, size: int) -> None:
        count, held = self._deliveries.pushes(account)
        if count + self._coming[account] >= self._settings.max_owed_pushes:
            waits = f"{self._settings.max_owed_pushes} messages wait"
        elif held + self._coming_bytes[account] + size > self._settings.max_owed_push_mebibytes << 20:
            waits = f"messages of {self._settings.max_owed_push_mebibytes} MiB wait"
        else:
            return
        raise Overloaded(_RETRY_AFTER_SECONDS, f"{waits} for {account}; is an instance of it attached?")

    async def _screened(self, content: Content, assistant: str, budget: Budget) -> Content:
        """The message as it may be sent: what the filter masks or replaces is.

        Raises:
            InvalidField: if it may not be sent.
        """
        screening, moderation = self._stations.screener.screening(assistant), self._stations.moderation
        parts: list[Part] = []
        for index, part in enumerate(content.parts):
            if not isinstance(part, TextPart):
                parts.append(part)
                continue
            screened = screening.check(part.text, Direction.OUTPUT)
            stopped = screened.action.stops
            if not stopped and moderation is not None:
                stopped = (await moderation.check(screened.text, Direction.OUTPUT, assistant, budget)).stops
            if stopped:
                field = f"content.parts[{index}].text"
                raise InvalidField(
                    field, f"is stopped by the output filter of assistants/{assistant}; say it otherwise"
                )
            if screened.text:
                parts.append(part if screened.text == part.text else TextPart(screened.text))
        if not any(not isinstance(part, TextPart) or not part.text.isspace() for part in parts):
            raise InvalidField("content", f"is empty behind the output filter of assistants/{assistant}")
        return Content(tuple(parts))


def push_conversation(account: str, recipient: str) -> str:
    """The conversation of everything that is pushed to one recipient, so that it arrives in order.

    Args:
        account: ``channels/{channel}/accounts/{account}``, of which the last part shows in the name.
    """
    whole = hashlib.blake2b(msgspec.msgpack.encode((account, recipient)), digest_size=16).hexdigest()
    return f"push.{account.rpartition('/')[2]}.{whole}"
