"""Whether a program is ready: named parts, all of which must be true."""

from collections.abc import Callable, Mapping


class Health:
    """A set of named parts. A part begins as false, so nothing is ready by being forgotten.

    Belongs to one event loop.
    """

    def __init__(self, *parts: str) -> None:
        """Args: the parts that exist from the start; others may be added while starting."""
        self._parts = dict.fromkeys(parts, False)
        self._listeners: list[Callable[[bool], None]] = []

    @property
    def ready(self) -> bool:
        """Whether there is at least one part, and all of them are true."""
        return bool(self._parts) and all(self._parts.values())

    @property
    def parts(self) -> Mapping[str, bool]:
        """Each part as it stands now."""
        return dict(self._parts)

    def add(self, part: str) -> None:
        """Adds a part, false, if it does not exist yet."""
        if part not in self._parts:
            self._change(part, value=False)

    def mark(self, part: str, *, ready: bool) -> None:
        """Sets a part, and tells the listeners if that changes whether all is ready.

        Raises:
            KeyError: for a part that was not added: a misspelt name would look healthy.
        """
        if part not in self._parts:
            raise KeyError(part)
        self._change(part, value=ready)

    def on_change(self, listener: Callable[[bool], None]) -> None:
        """Calls ``listener`` with the new readiness whenever it changes, and once now."""
        self._listeners.append(listener)
        listener(self.ready)

    def _change(self, part: str, *, value: bool) -> None:
        before = self.ready
        self._parts[part] = value
        if self.ready is not before:
            for listener in self._listeners:
                listener(self.ready)
