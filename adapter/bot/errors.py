"""What the long connection of a bot can say no with.

The tree, one line of purpose each::

    BotError                  anything that kept a frame from being acknowledged with 0
     ├─ ConnectionLost        the connection ended before the acknowledgement
     │   └─ NotConnected      … or there was none: nothing was sent
     ├─ AckMissing            the connection stands, the acknowledgement did not come
     └─ FrameRefused          an acknowledgement with an error code (DOC 101463)
         ├─ SubscribeRefused  … of the subscription: the bot's id or secret
         └─ OverBudget        not sent: WeCom would refuse it by our own count

What a code calls for is decided by whoever sent the frame.
"""

from typing import Final


class BotError(Exception):
    """Anything that kept a frame from being acknowledged with 0."""


class ConnectionLost(BotError):
    """The connection ended first. Whether WeCom acted on the frame is not known."""


class NotConnected(ConnectionLost):
    """No connection came in time: the frame was not sent."""


class AckMissing(BotError):
    """No acknowledgement came. Whether WeCom acted on the frame is not known."""


class FrameRefused(BotError):
    """WeCom refused the frame and did nothing."""

    def __init__(self, code: int, cmd: str) -> None:
        super().__init__(f"WeCom refused {cmd} with code {code}")
        self.code = code


class SubscribeRefused(FrameRefused):
    """WeCom refused the subscription."""


class OverBudget(FrameRefused):
    """The conversation has had as many messages as WeCom allows; nothing was sent."""

    def __init__(self, after: float) -> None:
        """Args: ``after`` how many seconds another one may be sent."""
        super().__init__(45009, "a message that was not even sent")
        self.after = after

    def __str__(self) -> str:
        return f"the conversation has had its messages; the next one may go in {self.after:.0f} s"


NOT_FOR_THIS: Final = 846605
"""The ``req_id`` cannot carry this reply."""
STREAM_CLOSED: Final = 846608
"""Nothing can be written to this stream any more."""
NOT_SUBSCRIBED: Final = 846609
"""The platform dropped the subscription while the socket stayed open."""
CONFLICT: Final = 6000
"""Two updates met; soon again."""
DEVICE: Final = 600039
"""Somebody's device cannot show a stream."""
BAD_MEDIA: Final = 40007
"""The ``media_id`` is not good, or not any more."""
NOT_SENDABLE: Final = 40008
"""A kind of message that cannot be sent."""
TOO_LONG: Final = frozenset({45002, 40058})
SLOW_DOWN: Final = {45009: 10.0, 45033: 2.0}
"""Frequency limits, with the seconds after which one more try is worth it."""
RECEIVER: Final = frozenset({93006, 40003, 46004, 60111, 81013})
"""There is no such person or group, or the bot is not in it."""
