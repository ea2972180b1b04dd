"""The part of the command line that is for administrators: ``python -m weconverse lexicon …``.

What is listed comes as lines of columns with tabs between them, to be read by people and by ``cut``.
"""

import argparse
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from weconverse._terminal import printable
from weconverse.admin import AdminClient
from weconverse.v1.admin_pb2 import LexiconChange, LexiconEntry, TestTextResponse

_Occurrence = TestTextResponse.Occurrence

DIRECTIONS = {"input": LexiconEntry.INPUT, "output": LexiconEntry.OUTPUT}
BOUNDARIES = {"any": LexiconEntry.ANYWHERE, "word": LexiconEntry.OWN_WORD}
ACTIONS = {name.lower(): number for name, number in LexiconEntry.Action.items() if number}
ORIGINS = {name.lower(): number for name, number in LexiconEntry.Origin.items() if number}


def add_commands(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser
) -> None:
    """Adds ``lexicon`` and what may follow it. Args: ``common`` has the options of every command."""
    lexicon = commands.add_parser("lexicon", help="look at and change word lists, with an administrator's token")
    parts = lexicon.add_subparsers(dest="lexicon_command", required=True)

    listing = parts.add_parser("list", parents=[common], help="list entries: name, word, tag, action, origin")
    listing.add_argument("--tag", default="", help="only those of this tag")
    listing.add_argument("--prefix", default="", help="only words that begin so")
    listing.add_argument("--origin", choices=ORIGINS, help="only those that come from there")

    test = parts.add_parser("test", parents=[common], help="say what the filter would make of a text, and why")
    test.add_argument("text", help="the text; - reads it from standard input")
    test.add_argument("--direction", choices=DIRECTIONS, default="input", help="who says it (%(default)s: a person)")
    test.add_argument("--assistant", default="", help="whose policy decides; the service's default without it")

    add = parts.add_parser("add", parents=[common], help="add a word, or replace the one that was added")
    add.add_argument("word")
    add.add_argument("--tag", default="", help="what kind of word it is")
    add.add_argument("--level", type=int, default=0, help="how grave it is, 0 to 100")
    add.add_argument("--boundary", choices=BOUNDARIES, help="where it counts; what its script suggests without it")
    add.add_argument("--direction", choices=DIRECTIONS, help="whose words are meant; those of both without it")
    add.add_argument("--action", choices=ACTIONS, help="what a hit leads to; the policy decides without it")
    add.add_argument("--replacement", default="", help="what stands in the place of a hit that is replaced")
    add.add_argument("--allow", action="store_true", help="a word inside of which nothing is looked for")

    remove = parts.add_parser("remove", parents=[common], help="remove an entry, or withdraw a word from the files")
    remove.add_argument("name", help="the entry, as list shows it")

    parts.add_parser("reload", parents=[common], help="have the files read anew")
    audit = parts.add_parser("audit", parents=[common], help="list changes: number, time, who, what, entry, word")
    audit.add_argument("--last", type=int, default=50, metavar="N", help="how many (%(default)s)")


async def run(client: AdminClient, args: argparse.Namespace, readable: Callable[[str], str]) -> None:
    """Does what was asked for, and prints the outcome.

    Args:
        readable: makes text of an argument or of standard input that can be sent.

    Raises:
        WeConverseError: if the service says no or cannot be reached.
        ValueError: for a name that is none.
    """
    async with client:
        await _COMMANDS[args.lexicon_command](client, args, readable)


async def _list(client: AdminClient, args: argparse.Namespace, readable: Callable[[str], str]) -> None:
    origin = ORIGINS.get(args.origin, LexiconEntry.ORIGIN_UNSPECIFIED)
    async for entry in client.list_entries(tag=readable(args.tag), prefix=readable(args.prefix), origin=origin):
        _print_entry(entry)


async def _test(client: AdminClient, args: argparse.Namespace, readable: Callable[[str], str]) -> None:
    text = readable(sys.stdin.read() if args.text == "-" else args.text)
    tested = await client.test_text(text, DIRECTIONS[args.direction], assistant=args.assistant)
    _columns("folded", tested.folded_text)
    for each in tested.occurrences:
        verdict = _name(_Occurrence.Verdict, each.verdict)
        action = _name(LexiconEntry.Action, each.action) if each.action else "-"
        _columns(verdict, f"{each.start}-{each.end}", each.word, each.tag, action, _short(each.entry))
    _columns("action", _name(LexiconEntry.Action, tested.action))
    _columns("shown", tested.shown_text)


async def _add(client: AdminClient, args: argparse.Namespace, readable: Callable[[str], str]) -> None:
    entry = await client.add_entry(
        readable(args.word),
        tag=readable(args.tag),
        level=args.level,
        boundary=BOUNDARIES.get(args.boundary, LexiconEntry.BOUNDARY_UNSPECIFIED),
        direction=DIRECTIONS.get(args.direction, LexiconEntry.DIRECTION_UNSPECIFIED),
        action=ACTIONS.get(args.action, LexiconEntry.ACTION_UNSPECIFIED),
        replacement=readable(args.replacement),
        allowed=args.allow,
    )
    _print_entry(entry)


async def _remove(client: AdminClient, args: argparse.Namespace, readable: Callable[[str], str]) -> None:
    withdrawal = await client.remove_entry(readable(args.name))
    if withdrawal is not None:
        _print_entry(withdrawal)


async def _reload(client: AdminClient, args: argparse.Namespace, readable: Callable[[str], str]) -> None:
    loaded = await client.reload()
    _columns(f"{loaded.entry_count} entries are in force, after {loaded.elapsed.ToMilliseconds() / 1000:.3f} s")


async def _audit(client: AdminClient, args: argparse.Namespace, readable: Callable[[str], str]) -> None:
    left = args.last
    if left <= 0:
        return
    async for change in client.audit(page_size=min(left, 1000)):
        about = change.after if change.HasField("after") else change.before
        when = datetime.fromtimestamp(change.time.seconds, UTC).isoformat()
        kind = _name(LexiconChange.Kind, change.kind)
        _columns(str(change.sequence), when, change.admin, kind, _short(about.name) or "-", about.word or "-")
        left -= 1
        if left == 0:
            return


def _print_entry(entry: LexiconEntry) -> None:
    action = "allowed" if entry.allowed else _name(LexiconEntry.Action, entry.action) if entry.action else "-"
    _columns(_short(entry.name), entry.word, entry.tag, action, _name(LexiconEntry.Origin, entry.origin))


def _columns(*values: str) -> None:
    """A line. Line breaks within a value become spaces, so that a line stays one."""
    sys.stdout.write("\t".join(" ".join(printable(value).split()) for value in values) + "\n")
    sys.stdout.flush()


def _short(name: str) -> str:
    return name.removeprefix("lexiconEntries/")


def _name(kind: Any, number: int) -> str:
    """The name of a value in small letters; of one that this version does not know, its number."""
    return str(kind.Name(number)).lower() if number in kind.values() else str(number)


_COMMANDS: dict[str, Callable[[AdminClient, argparse.Namespace, Callable[[str], str]], Awaitable[None]]] = {
    "list": _list,
    "test": _test,
    "add": _add,
    "remove": _remove,
    "reload": _reload,
    "audit": _audit,
}
