"""``python -m server.filter import|report|test|dry-run``: word lists and patterns at the desk, before they go live.

Exit codes: 0, nothing was found; 1, something was; 2, it could not be done.
"""

import argparse
import csv
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from program.settings import SettingsError, load
from server.filter.base import Why
from server.filter.building import Job, read_rows
from server.filter.compiled import Compiled, compile_rows
from server.filter.entries import Action, Direction
from server.filter.fold import fold_word
from server.filter.list_files import find_lists, read_list
from server.filter.list_report import Finding, Hits, findings, hits
from server.filter.list_rows import COLUMNS, ListError, Row
from server.filter.logged_texts import LoggedText, texts_of_database, texts_of_file
from server.filter.occurrences import occurrences
from server.filter.text_pattern import TextPattern, patterns_of
from server.settings import Settings

MAX_WORDS: Final = 2_000_000
MOST_FREQUENT: Final = 50

_DIRECTION_NAMES: Final = {Direction.INPUT: "input", Direction.OUTPUT: "output", Direction.BOTH: ""}


def main(arguments: Sequence[str] | None = None) -> int:
    """Does one command, and returns the exit code."""
    given = _parser().parse_args(arguments)
    try:
        code: int = given.run(given)
    except (ListError, SettingsError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m server.filter", description="Word lists, before they go live.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    importing = commands.add_parser("import", help="turn lists of any format into one CSV, and say what to look at")
    importing.add_argument("-o", "--output", type=Path, required=True, help="the CSV file to write")
    importing.add_argument("--tag", default="", help="the tag of words that have none")
    importing.set_defaults(run=_import)
    report = commands.add_parser("report", help="say what to look at in lists")
    report.set_defaults(run=_report)
    test = commands.add_parser("test", help="show what lists find in one text, and why the rest does not count")
    test.add_argument("--text", required=True)
    test.add_argument("--direction", choices=("input", "output"), default="input")
    test.set_defaults(run=_test)
    dry_run = commands.add_parser("dry-run", help="count what lists find in logged texts")
    dry_run.set_defaults(run=_dry_run)
    for command in (importing, report, test, dry_run):
        configured = command in (test, dry_run)
        more = "; those of --config if none is named" if configured else ""
        command.add_argument(
            "lists", nargs="*" if configured else "+", metavar="LIST", help=f"files, or folders of them{more}"
        )
    for command in (test, dry_run):
        command.add_argument("--config", type=Path, help="the settings of the server, for their filter.patterns")
    for command in (importing, report, dry_run):
        texts = command.add_mutually_exclusive_group(required=command is dry_run)
        texts.add_argument("--texts", type=Path, help="JSON Lines: texts, or objects with `text` and `direction`")
        texts.add_argument("--database", type=Path, help="the turn store, which may be in use")
    return parser


def _import(given: argparse.Namespace) -> int:
    refused: list[ListError] = []
    rows = _lenient_rows(given.lists, refused)
    usable = [row for row in rows if len(row.folded) > 1]
    once = {(row.folded, row.kind): row for row in reversed(usable)}
    _write(given.output, [row for row in usable if once[row.folded, row.kind] is row], given.tag)
    print(f"{given.output}: {len(once)} words of {len(rows) + len(refused)} lines")
    return _tell(rows, refused, given)


def _report(given: argparse.Namespace) -> int:
    refused: list[ListError] = []
    rows = _lenient_rows(given.lists, refused)
    print(f"{len(rows)} words")
    return _tell(rows, refused, given)


def _test(given: argparse.Namespace) -> int:
    words, patterns = _looked_for(given)
    direction = Direction.OUTPUT if given.direction == "output" else Direction.INPUT
    print(f"folded: {fold_word(given.text)}")
    meant = False
    for each in occurrences(words, given.text, direction, patterns):
        action = "" if each.entry.action is None else f" {each.entry.action.name.lower()}"
        print(f"{each.start}-{each.end} {each.entry.word} [{each.entry.tag}] {each.entry.id}: {each.why.value}{action}")
        meant = meant or each.why is Why.MEANT
    return int(meant)


def _dry_run(given: argparse.Namespace) -> int:
    words, patterns = _looked_for(given)
    return int(_tell_hits(hits(words, _texts(given), patterns)))


def _tell(rows: Sequence[Row], refused: Sequence[ListError], given: argparse.Namespace) -> int:
    found = list(findings(rows, refused))
    for finding in found:
        _tell_finding(finding)
    hit = False
    if given.texts is not None or given.database is not None:
        hit = _tell_hits(hits(compile_rows(rows), _texts(given)))
    return int(bool(found) or hit)


def _tell_finding(finding: Finding) -> None:
    print(f"\n{finding.total} {finding.title}:")
    for place in finding.where:
        print(f"  {place}")
    if finding.total > len(finding.where):
        print(f"  and {finding.total - len(finding.where)} more")


def _tell_hits(found: Hits) -> bool:
    share = found.texts_hit / max(found.texts, 1)
    per_thousand = 1000 * found.by_entry.total() / max(found.characters, 1)
    print(f"\n{found.texts_hit} of {found.texts} texts are hit ({share:.1%}):")
    print(f"{per_thousand:.2f} hits in 1,000 characters")
    for (entry, tag, word), count in found.by_entry.most_common(MOST_FREQUENT):
        print(f"  {count} {word} [{tag}] {entry}")
    return bool(found.by_entry)


def _texts(given: argparse.Namespace) -> Iterator[LoggedText]:
    return texts_of_file(given.texts) if given.texts is not None else texts_of_database(given.database)


def _looked_for(given: argparse.Namespace) -> tuple[Compiled, tuple[TextPattern, ...]]:
    if given.config is None and not given.lists:
        raise ValueError("no list is named; name files or folders, or the server's settings with --config")
    lists: Sequence[str] = given.lists
    patterns: tuple[TextPattern, ...] = ()
    if given.config is not None:
        settings = load(Settings, given.config, os.environ, "WECONVERSE_SERVER").filter
        lists, patterns = lists or settings.lists, patterns_of(settings)
    paths = tuple(file.path for file in find_lists(lists))
    return compile_rows(read_rows(Job(paths, MAX_WORDS, single_characters=True))), patterns


def _lenient_rows(lists: Sequence[str], refused: list[ListError]) -> list[Row]:
    """Every row that can be used; words of one character too, so that they can be told."""
    files = find_lists(lists)
    return [row for file in files for row in read_list(file.path, single_characters=True, refused=refused.append)]


def _write(path: Path, rows: Sequence[Row], tag: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            kind = row.kind
            action = "" if kind.action is None else Action(kind.action).name.lower()
            named = tag if tag and kind.tag == kind.file.split(".", 1)[0] else kind.tag
            cells = (row.word, named, kind.level or "", kind.boundary, _DIRECTION_NAMES[Direction(kind.direction)])
            allow = "yes" if kind.allows else ""
            writer.writerow((*cells, action, kind.replacement, allow, "|".join(row.variants)))


if __name__ == "__main__":
    sys.exit(main())
