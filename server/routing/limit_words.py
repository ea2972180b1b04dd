"""Limits in words, for those who run into one and for operators. Pure."""

from server.routing.limit_state import MONEY_UNITS, Claim, LimitKind


def in_words(claim: Claim, kind: LimitKind) -> str:
    """What a claim allows of one kind, such as ``50 requests per minute``."""
    match kind:
        case LimitKind.REQUESTS:
            return f"{claim.requests} requests per minute"
        case LimitKind.TOKENS:
            return f"{claim.tokens} tokens per minute"
        case LimitKind.PLACES:
            return f"{claim.places} concurrent calls"
        case LimitKind.MONEY:
            money = f"{claim.money / MONEY_UNITS:.9f}".rstrip("0").rstrip(".")
            return f"spending of {money} per day"


def all_in_words(claim: Claim) -> str:
    """Everything that a claim limits; empty for nothing."""
    limited = {
        LimitKind.REQUESTS: claim.requests,
        LimitKind.TOKENS: claim.tokens,
        LimitKind.PLACES: claim.places,
        LimitKind.MONEY: claim.money,
    }
    return ", ".join(in_words(claim, kind) for kind, amount in limited.items() if amount)
