"""Whether a turn may begin at all."""

from server.domain import Ask, Content
from server.errors import InputTooLong, Overloaded, RouteLoop, ShuttingDown
from server.settings import TurnSettings
from server.turn.register import Register

_RETRY_AFTER_SECONDS = 2.0
"""What a caller is told to wait when the service is full."""


class Admission:
    """The door: open, full, or closing."""

    def __init__(self, settings: TurnSettings, register: Register, node_id: str = "") -> None:
        """Args: ``node_id`` is this server's name where servers stand in front of one another."""
        self._settings = settings
        self._node_id = node_id
        self._register = register
        self._closing = False

    def close(self) -> None:
        """Lets no more turns in: the server is stopping."""
        self._closing = True

    def check_open(self) -> None:
        """Raises ``ShuttingDown`` or ``Overloaded`` if no turn may begin now."""
        if self._closing:
            raise ShuttingDown
        if self._register.running >= self._settings.max_turns:
            raise Overloaded(_RETRY_AFTER_SECONDS)

    def check_way(self, ask: Ask) -> None:
        """Raises ``RouteLoop`` if the turn has passed this server before.

        Also for one that would attach: the turn it would attach to waits for this very call.
        """
        if self._node_id in ask.via:
            raise RouteLoop(self._node_id)

    def check_length(self, ask: Ask) -> None:
        """Raises ``InputTooLong``."""
        self.check_characters(ask.input)

    def check_characters(self, content: Content) -> None:
        """Raises ``InputTooLong`` if the texts of a message are longer than those of a person may be."""
        length = len(content.text)
        if length > self._settings.max_input_characters:
            raise InputTooLong(self._settings.max_input_characters, length)
