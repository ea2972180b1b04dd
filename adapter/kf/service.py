"""What customer service asks of our service, for one account."""

import contextlib
from collections.abc import Mapping
from typing import Final

from cachetools import TTLCache

from adapter.submission import CHANNEL, account_name
from adapter.translate import Incoming
from weconverse import ConversationClient, ResourceNotFound
from weconverse.v1.conversation_pb2 import Turn, TurnOptions

_SECONDS: Final = 10.0
"""For one call. Nobody waits on the line: a callback is acknowledged before."""
_SERVED_SECONDS: Final = 3600.0


class KfService:
    """The calls of one account. Every method raises ``WeConverseError``."""

    def __init__(
        self,
        client: ConversationClient,
        account: str,
        *,
        assistant: str,
        assistants: Mapping[str, str],
        can_hand_off: bool,
    ) -> None:
        """Args: ``account`` by its bare name; ``assistants`` by ``open_kfid``, of those with one of their own."""
        self._client = client
        self._account = account_name(account)
        self._assistant = assistant
        self._assistants = dict(assistants)
        self._options = TurnOptions(can_hand_off=can_hand_off)
        # Spares a call for each message of a person who serves; losing an entry costs that call.
        self._served: TTLCache[str, bool] = TTLCache(10_000, _SERVED_SECONDS)

    def _assistant_of(self, open_kfid: str) -> str:
        return self._assistants.get(open_kfid, self._assistant)

    async def submit(self, incoming: Incoming, open_kfid: str) -> Turn:
        """Hands a message over; when this returns, it is on disk at the service, which then owes the answer."""
        return await self._client.submit(
            incoming.conversation,
            incoming.content,
            request_id=incoming.request_id,
            account=self._account,
            address=incoming.address,
            timeout=_SECONDS,
            sender=incoming.sender,
            assistant=self._assistant_of(open_kfid),
            channel=CHANNEL,
            options=self._options,
        )

    async def ask_again(self, conversation: str, turn: Turn, address: bytes, open_kfid: str, request_id: str) -> None:
        """Hands the message of a turn over once more, as another turn."""
        await self._client.submit(
            conversation,
            turn.input,
            request_id=request_id,
            account=self._account,
            address=address,
            timeout=_SECONDS,
            sender=turn.sender,
            assistant=self._assistant_of(open_kfid),
            channel=CHANNEL,
            options=self._options,
        )

    async def knows(self, turn: str) -> bool:
        """Whether there is a turn of that name."""
        try:
            await self._client.get_turn(turn, omit_input=True, timeout=_SECONDS)
        except ResourceNotFound:
            return False
        return True

    async def cancel(self, turn: str) -> None:
        """Stops a turn, if it still runs."""
        with contextlib.suppress(ResourceNotFound):
            await self._client.cancel_turn(turn, timeout=_SECONDS)

    async def hand_off(self, conversation: str) -> None:
        """Tells that a person has the customer: the assistant is silent from now on."""
        await self._client.hand_off(conversation, timeout=_SECONDS)
        self._served[conversation] = True

    def is_served(self, conversation: str) -> bool:
        """Whether this instance said lately that a person has the customer, and not that nobody has."""
        return conversation in self._served

    async def resume(self, conversation: str) -> None:
        """Tells that nobody has the customer: the assistant answers from now on."""
        self._served.pop(conversation, None)
        with contextlib.suppress(ResourceNotFound):  # nothing was ever said there
            await self._client.resume(conversation, timeout=_SECONDS)

    async def greeting(self, open_kfid: str) -> str:
        """What a customer who comes in is told; empty for silence."""
        return (await self._client.get_assistant(self._assistant_of(open_kfid), timeout=_SECONDS)).greeting
