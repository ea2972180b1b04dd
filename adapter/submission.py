"""Hands a message of a person to the service."""

from typing import Final

from adapter.translate import Incoming
from weconverse import ConversationClient
from weconverse.v1.conversation_pb2 import TurnOptions

CHANNEL: Final = "wecom"


def account_name(account: str) -> str:
    """The resource name under which the service knows an account."""
    return f"channels/{CHANNEL}/accounts/{account}"


class Submission:
    """Submits the messages of one account. Cheap to call: what never changes is made once."""

    def __init__(
        self, client: ConversationClient, account: str, assistant: str, options: TurnOptions | None = None
    ) -> None:
        """Args: ``account`` and ``assistant`` by their bare names."""
        self._client = client
        self._account = account_name(account)
        self._assistant = assistant
        self._options = options

    async def __call__(self, incoming: Incoming, seconds: float) -> None:
        """Returns when the message is on disk at the service, which then owes the answer.

        Raises:
            WeConverseError: it is not, or nobody knows. Repeating is harmless.
        """
        await self._client.submit(
            incoming.conversation,
            incoming.content,
            request_id=incoming.request_id,
            account=self._account,
            address=incoming.address,
            timeout=seconds,
            sender=incoming.sender,
            assistant=incoming.assistant or self._assistant,
            channel=CHANNEL,
            options=self._options,
        )
