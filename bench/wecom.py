"""A fake WeCom API that is never the bottleneck, and a referee: ``python -m bench.wecom``.

``gettoken`` and ``message/send`` as far as a reply needs them. Every message that is sent
is checked: each person has asked one question that is marked with the person's own id
(``bench.upstream.mark``), and must get the whole reply to it once. ``GET /stats`` gives the
counts, ``GET /reset`` begins anew.
"""

import argparse
import asyncio
import time
from typing import Any

import msgspec

from bench import place, raw_http, upstream

_TOKEN = b'{"errcode":0,"errmsg":"ok","access_token":"bench","expires_in":7200}'
_SENT = b'{"errcode":0,"errmsg":"ok","msgid":"bench-%d"}'
TOKENS = 64
"""The length of the replies it expects."""


class _Text(msgspec.Struct, frozen=True):
    content: str = ""


class _Send(msgspec.Struct):
    touser: str
    msgtype: str
    text: _Text = _Text()
    markdown: _Text = _Text()


_decode = msgspec.json.Decoder(_Send).decode


class Stats(msgspec.Struct):
    """What arrived since the last reset."""

    sent: int = 0
    doubled: int = 0
    """Messages to a person who had the reply already."""
    wrong: int = 0
    """Messages that are not the whole reply to that person's question."""
    last: float = 0.0
    """When the last one came, on the monotonic clock that all processes share."""


class Referee:
    """Counts and checks what people are sent."""

    def __init__(self) -> None:
        self.stats = Stats()
        self._served: set[str] = set()

    def take(self, body: bytes) -> int:
        """Checks one ``message/send`` and returns its number."""
        message = _decode(body)
        content = message.text.content or message.markdown.content
        expected = (upstream.reply_text(upstream.mark(message.touser), count, TOKENS) for count in range(1, 4))
        self.stats.sent += 1
        self.stats.doubled += message.touser in self._served
        self.stats.wrong += content.strip() not in expected
        self.stats.last = time.monotonic()
        self._served.add(message.touser)
        return self.stats.sent


class _Connection(raw_http.Reader):
    def __init__(self, referees: list[Referee]) -> None:
        super().__init__()
        self._referees = referees

    def received(self, head: bytes, body: bytes) -> None:
        target = head.split(b" ", 2)[1]
        if target.startswith(b"/cgi-bin/message/send"):
            answer = _SENT % self._referees[-1].take(body)
        elif target.startswith(b"/cgi-bin/gettoken"):
            answer = _TOKEN
        else:
            if target == b"/reset":
                self._referees[:] = [Referee()]
            answer = msgspec.json.encode(self._referees[-1].stats)
        self.write(raw_http.response(answer))


async def _serve() -> None:
    referees: list[Any] = [Referee()]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(referees), "127.0.0.1", 0, backlog=4096)
    async with server:
        await place.announce_and_wait({"http": server.sockets[0].getsockname()[1]})


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    place.run(_serve())


if __name__ == "__main__":
    main()
