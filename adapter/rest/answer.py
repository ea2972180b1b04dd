"""What an HTTP answer of WeCom says, within bounds, and without the address in any error."""

from contextlib import AbstractAsyncContextManager
from typing import Final

import aiohttp

from adapter.rest.errors import WeComUnreachable

NEVER_SENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""What aiohttp raises before a byte of the request has left."""


async def body_of(answering: AbstractAsyncContextManager[aiohttp.ClientResponse], call: str, most: int) -> bytes:
    """The body of a good answer.

    Args:
        answering: a request that is sent when this is entered.
        call: what stands for the address in errors: aiohttp's own quote it, and with it the token or the key.
        most: bytes that are read; what is longer cannot be decoded.

    Raises:
        WeComUnreachable: there is none.
    """
    try:
        async with answering as response:
            raw = bytearray(await response.content.read(most))
            while not response.content.at_eof() and len(raw) < most:
                raw += await response.content.read(most - len(raw))
            if response.status != 200:
                raise WeComUnreachable(f"{call}: HTTP {response.status}", maybe_done=True)
    except NEVER_SENT as error:
        raise WeComUnreachable(f"{call}: {type(error).__name__}", maybe_done=False) from None
    except (aiohttp.ClientError, TimeoutError) as error:
        raise WeComUnreachable(f"{call}: {type(error).__name__}", maybe_done=True) from None
    return bytes(raw)
