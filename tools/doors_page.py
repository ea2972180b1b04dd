"""The page `docs/doors.md`: what each door of WeCom shows of a reply, from the table that the adapter uses."""

from adapter.text.capabilities import DOORS, LEAST_BYTES, MIB, Door, Files


def doors(generated: str) -> str:
    """The page. Args: ``generated`` is the line that says where it comes from."""
    lines = [
        "# What each door shows\n",
        generated,
        "Models write Markdown, and replies may carry pictures and files. Each door of WeCom shows less of it",
        "than a browser would. What it cannot show is said the next best way: where Markdown is not shown, its",
        "marks become words; rows of a table become lines; long tables and long code become files",
        "(`media.file_above_bytes`); a file of a kind that the door does not take is sent as a plain file; and what",
        "cannot be sent at all is named in a sentence.\n",
        "| Door | Bytes of a message | Markdown | Tables | Lists | Code | Cards | Source |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for door in DOORS.values():
        shows = (door.markdown, door.tables, door.lists, door.code, door.cards)
        cells = [door.title, str(door.text_bytes), *("yes" if shown else "no" for shown in shows), door.source]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"Files, each of at least {LEAST_BYTES} bytes:\n",
        "| Door | Picture | Recording | Film | Other files | Remark |",
        "|---|---|---|---|---|---|",
    ]
    for door in DOORS.values():
        taken = [_files(door, kind) for kind in ("image", "voice", "video", "file")]
        lines.append(f"| {door.title} | {' | '.join(taken)} | {door.note} |")
    return "\n".join(lines) + "\n"


def _files(door: Door, kind: str) -> str:
    found: dict[str, Files] = {str(name): files for name, files in door.files.items()}
    if kind not in found:
        return "no"
    types = ", ".join(sorted(name.partition("/")[2].upper() for name in found[kind].types)) or "any"
    return f"{types}, {found[kind].most_bytes // MIB} MiB"
