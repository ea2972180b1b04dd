"""A text that must not be seen."""


class Secret:
    """Holds a secret; printing it shows asterisks.

    In a settings file a secret is a reference, ``env:NAME`` or ``file:PATH``, and is read
    when the settings are loaded. A literal works too, for tests and first steps.

    A program that rereads its files while it runs puts the new text in the place of the old
    one with :meth:`replace`. So whoever uses a secret asks for it each time, and no secret
    that is reread may be the key of a table.
    """

    __slots__ = ("_text", "changes", "reference")

    def __init__(self, text: str, reference: str = "") -> None:
        """Args: the secret itself, and the reference it was read from, if any."""
        self._text = text
        self.reference = reference
        self.changes = 0
        """How often it was replaced. Who made something of the secret makes it anew when this has grown."""

    def reveal(self) -> str:
        """The secret. Hand it to whoever checks or sends it, never to a log."""
        return self._text

    def replace(self, text: str) -> None:
        """Puts another text in the place of this one, for everybody who holds the secret."""
        self._text = text
        self.changes += 1

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret('********')" if self._text else "Secret('')"

    __str__ = __repr__
