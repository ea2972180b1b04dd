"""A text that must not be seen."""


class Secret:
    """Holds a secret; printing it shows asterisks.

    In a settings file a secret is a reference, ``env:NAME`` or ``file:PATH``, and is read
    when the settings are loaded. A literal works too, for tests and first steps.
    """

    __slots__ = ("_text", "reference")

    def __init__(self, text: str, reference: str = "") -> None:
        """Args: the secret itself, and the reference it was read from, if any."""
        self._text = text
        self.reference = reference

    def reveal(self) -> str:
        """The secret. Hand it to whoever checks or sends it, never to a log."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret('********')" if self._text else "Secret('')"

    __str__ = __repr__
