"""Resource names: what callers may leave out, and what is plainly wrong before it is sent."""

import uuid


def new_request_id() -> str:
    """A request id that nobody else has."""
    return uuid.uuid4().hex


def conversation_name(conversation: str) -> str:
    """``conversations/{conversation}``, whether or not the prefix was given.

    Raises:
        ValueError: if it is empty or the name of something else.
    """
    return _with_prefix("conversations", conversation)


def assistant_name(assistant: str) -> str:
    """``assistants/{assistant}``, whether or not the prefix was given; empty stays empty, the default.

    Raises:
        ValueError: if it is the name of something else.
    """
    return _with_prefix("assistants", assistant) if assistant else ""


def entry_name(entry: str) -> str:
    """``lexiconEntries/{entry}``, whether or not the prefix was given. What follows may hold slashes: it names a file.

    Raises:
        ValueError: if it is empty.
    """
    identifier = entry.removeprefix("lexiconEntries/")
    if not identifier:
        raise ValueError("an entry is named by what stands before its word, such as ads.csv:12")
    return f"lexiconEntries/{identifier}"


def turn_name(conversation: str, request_id: str) -> str:
    """The name of the turn that ``request_id`` makes in a conversation, known before it is sent.

    Raises:
        ValueError: if either is empty or holds a slash where none may be.
    """
    if not request_id or "/" in request_id:
        raise ValueError(f"request_id: {request_id!r} cannot be the last part of a name")
    return f"{conversation_name(conversation)}/turns/{request_id}"


def checked_turn_name(name: str) -> str:
    """The name itself.

    Raises:
        ValueError: if it is not of the form ``conversations/{conversation}/turns/{turn}``.
    """
    match name.split("/"):
        case ["conversations", conversation, "turns", turn] if conversation and turn:
            return name
    raise ValueError(f"{name!r} is not a turn: conversations/{{conversation}}/turns/{{turn}} is expected")


def _with_prefix(collection: str, name: str) -> str:
    identifier = name.removeprefix(f"{collection}/")
    if not identifier or "/" in identifier:
        raise ValueError(f"{name!r} does not name one of {collection}/")
    return f"{collection}/{identifier}"
