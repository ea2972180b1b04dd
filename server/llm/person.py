"""How a person is named to a vendor. Pure."""

import re
from hashlib import sha256
from typing import Final

_TAKEN_EVERYWHERE: Final = re.compile(r"[A-Za-z0-9_-]{6,64}").fullmatch
"""OpenAI takes 64 characters at most, Zhipu 6 at least, and DeepSeek these characters alone."""


def vendor_name(user: str) -> str:
    """A pseudonym in a form that every vendor takes; the same one for the same person.

    Callers choose pseudonyms as they like. One that a vendor would refuse is replaced by
    a digest, because a wrong form would cost the answer.
    """
    if _TAKEN_EVERYWHERE(user):
        return user
    return sha256(user.encode("utf-8", "surrogatepass")).hexdigest()[:32]
