"""Tells the service what people think of its replies."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from adapter.translate import Rated
from weconverse import ConversationClient
from weconverse.v1.conversation_pb2 import RateTurnRequest

_RATINGS: Final[Mapping[str, RateTurnRequest.Rating.ValueType]] = {
    "helpful": RateTurnRequest.HELPFUL,
    "unhelpful": RateTurnRequest.UNHELPFUL,
    "withdrawn": RateTurnRequest.RATING_UNSPECIFIED,
}


def rating(client: ConversationClient, *, seconds: float = 10.0) -> Callable[[Rated], Awaitable[None]]:
    """Records a rating within that time; the last one of a person wins. Raises :class:`weconverse.WeConverseError`."""

    async def rate(rated: Rated) -> None:
        await client.rate_turn(
            rated.turn, _RATINGS[rated.kind], comment=rated.comment, rater=rated.rater, timeout=seconds
        )

    return rate
