"""What is known of the call that is being handled."""

from contextvars import ContextVar

from server.budget import Budget


class Call:
    """One RPC under way: filled in by the interceptors and the handler, read by the journal and the meter."""

    __slots__ = ("budget", "caller", "conversation", "messages_out", "trace_id", "turn")

    def __init__(self) -> None:
        self.caller = ""
        """The authenticated calling service; empty on an open loopback."""
        self.budget: Budget | None = None
        """How long the call may take."""
        self.trace_id = ""
        """The caller's W3C trace, as 32 hexadecimal digits; empty without one."""
        self.conversation = ""
        """The conversation's identifier, for the journal, which writes its digest."""
        self.turn = ""
        """The turn's identifier within its conversation."""
        self.messages_out = 0
        """Messages that a stream has sent."""


current: ContextVar[Call] = ContextVar("current_call")
"""The call of this task. gRPC runs each call in a task of its own, so nothing needs to be reset."""

received_bytes: ContextVar[int] = ContextVar("received_bytes", default=0)
"""How large the last message was that came over the line in this task, as it came."""
