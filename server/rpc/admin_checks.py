"""What a request of an administrator must be like, as :mod:`server.rpc.checks` for those of callers.

What a word must be like is the lists' to say: they know how it is folded.
"""

import re
from collections.abc import Sequence
from typing import Final

from server.errors import InvalidField
from weconverse.v1 import admin_pb2 as pb

MAX_TEXT_CHARACTERS: Final = 20_000
MAX_WORD_CHARACTERS: Final = 256
"""Before folding, which makes words shorter; afterwards the lists allow 64."""
MAX_PREFIX_CHARACTERS: Final = 64
MAX_TAG_CHARACTERS: Final = 64
MAX_REPLACEMENT_CHARACTERS: Final = 64
MAX_LEVEL: Final = 100
MAX_NAME_CHARACTERS: Final = 512
MAX_PAGE_TOKEN_CHARACTERS: Final = 256

_ASSISTANT: Final = re.compile(r"assistants/[a-zA-Z0-9._~-]{1,128}").fullmatch
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]").search


def list_entries(request: pb.ListLexiconEntriesRequest) -> None:
    """Checks a request for a page of entries."""
    _page(request.page_size, request.page_token)
    _text(request.tag, "tag", MAX_TAG_CHARACTERS)
    _text(request.prefix, "prefix", MAX_PREFIX_CHARACTERS)
    _known(request.origin, pb.LexiconEntry.Origin.values(), "origin")


def try_text(request: pb.TestTextRequest) -> None:
    """Checks a text that is to be tried."""
    if not request.text:
        raise InvalidField("text", "is required; set it to the text to try")
    if len(request.text) > MAX_TEXT_CHARACTERS:
        raise InvalidField("text", f"has {len(request.text)} characters, {MAX_TEXT_CHARACTERS} are allowed; cut it")
    if request.assistant and _ASSISTANT(request.assistant) is None:
        raise InvalidField("assistant", "must be assistants/{assistant}, or empty for assistants/default")
    if request.direction not in (pb.LexiconEntry.INPUT, pb.LexiconEntry.OUTPUT):
        raise InvalidField("direction", "is required; set it to INPUT (people) or OUTPUT (models)")


def add(request: pb.AddLexiconEntryRequest) -> None:
    """Checks an entry by itself."""
    if not request.HasField("entry"):
        raise InvalidField("entry", "is required; set it to the entry to add")
    entry = request.entry
    if not entry.word.strip():
        raise InvalidField("entry.word", "is required; set it to the word to look for")
    _text(entry.word, "entry.word", MAX_WORD_CHARACTERS)
    _text(entry.tag, "entry.tag", MAX_TAG_CHARACTERS)
    _text(entry.replacement, "entry.replacement", MAX_REPLACEMENT_CHARACTERS)
    if not 0 <= entry.level <= MAX_LEVEL:
        raise InvalidField("entry.level", f"must be in [0, {MAX_LEVEL}], and is {entry.level}")
    _known(entry.boundary, pb.LexiconEntry.Boundary.values(), "entry.boundary")
    _known(entry.direction, pb.LexiconEntry.Direction.values(), "entry.direction")
    _known(entry.action, pb.LexiconEntry.Action.values(), "entry.action")


def remove(request: pb.RemoveLexiconEntryRequest) -> None:
    """Checks the name of an entry."""
    rule = "lexiconEntries/{entry}, as ListLexiconEntries has it"
    if not request.name:
        raise InvalidField("name", f"is required; set it to {rule}")
    prefix, slash, entry = request.name.partition("/")
    if prefix != "lexiconEntries" or not slash or not entry or len(request.name) > MAX_NAME_CHARACTERS:
        raise InvalidField("name", f"must be {rule}")
    _text(entry, "name", MAX_NAME_CHARACTERS)


def list_audit(request: pb.ListLexiconAuditRequest) -> None:
    """Checks a request for a page of the audit log."""
    _page(request.page_size, request.page_token)


def _page(size: int, token: str) -> None:
    if size < 0:
        raise InvalidField("page_size", "must not be below 0; leave it out for the default")
    if len(token) > MAX_PAGE_TOKEN_CHARACTERS:
        raise InvalidField("page_token", "must be the next_page_token of an earlier page, or empty")


def _text(value: str, field: str, most: int) -> None:
    if len(value) > most:
        raise InvalidField(field, f"has {len(value)} characters, {most} are allowed; shorten it")
    # A line break in a name or a word would make two lines of one in a list, in a log, at a terminal.
    if _CONTROL(value):
        raise InvalidField(field, "must have no control characters or line breaks; remove them")


def _known(value: int, values: Sequence[int], field: str) -> None:
    if value not in values:
        raise InvalidField(field, f"must be one of its known values, and is {value}; update the service or the client")
