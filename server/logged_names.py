"""How a turn is named in log lines. Pure."""

import hashlib

from server.domain import TurnName


def conversation_digest(conversation: str) -> str:
    """Sixteen hexadecimal digits that name a conversation in a log: its own name may hold a person's."""
    return hashlib.blake2b(conversation.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def logged_name(turn: TurnName) -> dict[str, str]:
    """The fields by which a line about a turn is found beside that of the call: the same there and here."""
    return {"conversation": conversation_digest(turn.conversation), "turn": turn.request_id}
