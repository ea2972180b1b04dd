"""What a stream of events adds up to. Pure."""

from weconverse._requests import text_of
from weconverse.errors import SequenceGap, UnfinishedStream
from weconverse.v1.conversation_pb2 import StreamConverseResponse, Turn


class Reply:
    """Puts the events of one turn together, and notices when one is missing.

    Shared by both clients, so that they cannot differ.
    """

    def __init__(self, name: str = "", after_sequence: int = 0) -> None:
        self.name = name
        self.sequence = after_sequence
        self.text = ""
        self.turn: Turn | None = None
        self.attached = False
        self._first_seen = after_sequence

    def add(self, event: StreamConverseResponse) -> bool:
        """Takes the next event; whether it is news. A repeated one, as after taking a stream up again, is not.

        Raises:
            SequenceGap: if an event between the last one and this one is missing.
        """
        if 0 < event.sequence <= self.sequence:
            return False
        if event.sequence != self.sequence + 1:
            raise SequenceGap(self.sequence + 1, event.sequence)
        self.sequence = event.sequence
        match event.WhichOneof("event"):
            case "started":
                self.name = event.started.turn or self.name
                self.attached = event.started.attached
            case "delta":
                self.text += event.delta.text
            case "replacement":
                self.text = event.replacement.text
            case "completed":
                self.turn = event.completed.turn
                if self._first_seen:
                    # Followed from the middle: the events add up to the end of the text only.
                    self.text = text_of(self.turn.reply)
        return True

    def finished(self) -> Turn:
        """The completed turn.

        Raises:
            UnfinishedStream: if no event completed it.
        """
        if self.turn is None:
            raise UnfinishedStream(f"the stream ended after event {self.sequence} without completing the turn")
        return self.turn
