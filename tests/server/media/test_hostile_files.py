"""Files that were made to hurt: each gets an answer, within the memory and the time that are promised.

Measured on the very process that reads in service, against what that process takes to
read a harmless file of the same kind.
"""

import asyncio
import io
import json
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.media.job import Job, Outcome, Unread
from server.media.kinds import kind_of
from server.media.reader_process import command_of, outcome_of
from server.media.reading import MEMORY_BYTES
from tests.server.media import files

MEASURED = Path(__file__).with_name("measured.py")
ROOT = Path(__file__).parents[3]

MOST_BYTES = 64 << 20
MOST_SECONDS = 2.0
"""Of the processor. In service it is what ``media.seconds`` says, and the clock is held to the same."""

JOB = Job("document", "", 12_000, 2048, 85, 2 << 20, 120, processor_seconds=int(MOST_SECONDS))


async def measured(tmp_path: Path, data: bytes, job: Job) -> tuple[Outcome, float, int]:
    """What became of a file, the processor's seconds, and the most memory."""
    file = tmp_path / "file"
    await asyncio.to_thread(file.write_bytes, data)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(MEASURED),
        str(file),
        *command_of(job),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=ROOT,
        env={"LANG": "C.UTF-8"},
    )
    said, _ = await process.communicate()
    figures = json.loads(said)
    answer = (tmp_path / "file.outcome").read_bytes()
    return outcome_of(answer, figures["status"]), figures["processor_seconds"], figures["peak_bytes"]


WORD = '<w:document xmlns:w="w"><w:body>{}</w:body></w:document>'
SHEET = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{}</sheetData></worksheet>'
)


STRINGS_TYPE = (
    b'<Override PartName="/xl/sharedStrings.xml" '
    b'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"/>'
)


def in_word(body: str | bytes, styles: str | bytes | None = None) -> bytes:
    return files.packed({"word/document.xml": body} | ({} if styles is None else {"word/styles.xml": styles}))


def in_workbook(**parts: str | bytes) -> bytes:
    """The workbook with some of its parts exchanged: a slash is written as two underscores, a full stop as one."""
    exchanged: dict[str, Any] = {name.replace("__", "/").replace("_", "."): data for name, data in parts.items()}
    source, target = io.BytesIO(files.workbook()), io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = exchanged.pop(name, old.read(name))
            if name == "[Content_Types].xml":
                data = data.replace(b"</Types>", STRINGS_TYPE + b"</Types>")
            new.writestr(name, data)
        for name, data in exchanged.items():
            new.writestr(name, data)
    return target.getvalue()


def bomb_of(size: int, head: str, piece: str, tail: str) -> bytes:
    """XML of so many bytes, a thousandth of that when packed."""
    return (head + piece * (size // len(piece)) + tail).encode()


def with_claimed_size(data: bytes, size: int) -> bytes:
    """An archive whose first entry says that it has ``size`` bytes."""
    changed = bytearray(data)
    struct.pack_into("<I", changed, 22, size)
    struct.pack_into("<I", changed, data.rindex(b"PK\x01\x02", 0, data.rindex(b"PK\x05\x06")) + 24, size)
    return bytes(changed)


def many_entries(count: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(count):
            archive.writestr(f"word/{number}", "")
        archive.writestr("word/document.xml", WORD)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_claims(width: int, height: int, data: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(data or b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def png_with_text_bomb() -> bytes:
    text = b"Comment\0\0" + zlib.compress(b"a" * (80 << 20), 9)
    whole = files.picture()
    return whole[:33] + chunk(b"zTXt", text) + whole[33:]


def pdf_of(objects: list[bytes]) -> bytes:
    """A PDF of these objects, the first of which is the catalogue; without a table of where they are."""
    body = b"".join(b"%d 0 obj\n%s\nendobj\n" % (number, data) for number, data in enumerate(objects, 1))
    return b"%PDF-1.7\n" + body + b"trailer << /Root 1 0 R /Size %d >>\n%%%%EOF" % (len(objects) + 1)


def stream(data: bytes, more: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), more, data)


def pdf_that_draws_itself() -> bytes:
    form = b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /F 4 0 R >> >>"
    return pdf_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 5 0 R"
            b" /Resources << /XObject << /F 4 0 R >> >> >>",
            stream(b"/F Do " * 50, form),
            stream(b"/F Do " * 50),
        ]
    )


def pdf_with_pages_in_a_circle() -> bytes:
    return pdf_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [2 0 R 3 0 R] /Count 1000000000 >>",
            b"<< /Type /Pages /Parent 2 0 R /Kids [2 0 R] /Count 1000000000 >>",
        ]
    )


def pdf_with_a_packed_bomb() -> bytes:
    packed = zlib.compress(zlib.compress(b"(a) Tj " * (12 << 20), 9), 9)
    return pdf_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R >>",
            stream(packed, b"/Filter [/FlateDecode /FlateDecode]"),
        ]
    )


BEHIND_A_DOCTYPE = '<w:document xmlns:w="w"><w:p><w:t>&{};</w:t></w:p></w:document>'


def entity_bomb() -> str:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    return f'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY e0 "lol">{entities}]>{BEHIND_A_DOCTYPE.format("e9")}'


def foreign_file() -> str:
    return f'<!DOCTYPE d [<!ENTITY f SYSTEM "file:///etc/passwd">]>{BEHIND_A_DOCTYPE.format("f")}'


def strings(size: int) -> bytes:
    namespace = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return bomb_of(size, f'<sst xmlns="{namespace}">', "<si><t>a</t></si>", "</sst>")


def overlapping(count: int, size: int) -> bytes:
    """An archive whose entries are one and the same, packed once and named ``count`` times."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    plain, name = b"a" * size, b"word/document.xml"
    packed = packer.compress(plain) + packer.flush()
    sizes = struct.pack("<III", zlib.crc32(plain), len(packed), size)
    entry = (
        struct.pack("<IHHHHH", 0x04034B50, 20, 0, 8, 0, 0) + sizes + struct.pack("<HH", len(name), 0) + name + packed
    )
    listed = struct.pack("<IHHHHHH", 0x02014B50, 20, 20, 0, 8, 0, 0) + sizes + struct.pack("<H", len(name)) + bytes(16)
    listing = (listed + name) * count
    return entry + listing + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, len(listing), len(entry), 0)


def listing_of_long_names(count: int) -> bytes:
    """An archive of nothing but a list of what is in it."""
    name = b"word/document.xml" + b"x" * 1000
    listed = struct.pack("<IHH", 0x02014B50, 20, 20) + bytes(20) + struct.pack("<H", len(name)) + bytes(16) + name
    return (
        b"PK\x03\x04" + bytes(30) + listed * count
        + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, len(listed) * count, 34, 0)
    )  # fmt: skip


def with_part(name: str, data: str | bytes) -> bytes:
    """The workbook with one of its parts exchanged."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(files.workbook())) as old,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for each in old.namelist():
            new.writestr(each, data if each == name else old.read(each))
    return target.getvalue()


def pdf_that_says(operations: bytes) -> bytes:
    """A page with these operations, packed."""
    return pdf_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R"
            b" /Resources << /Font << /F 5 0 R >> >> >>",
            stream(zlib.compress(operations, 9), b"/Filter /FlateDecode"),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        ]
    )


def pdf_of_packed_objects() -> bytes:
    objects = zlib.compress(b"1 0 " * (20 * MIB), 9)
    return pdf_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R >>",
            stream(objects, b"/Type /ObjStm /N 5000000 /First 80000000 /Filter /FlateDecode"),
        ]
    )


def pdf_of_deep_pages(depth: int) -> bytes:
    return pdf_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            *(b"<< /Type /Pages /Count 1 /Kids [%d 0 R] >>" % (number + 3) for number in range(depth)),
            b"<< /Type /Page /MediaBox [0 0 9 9] >>",
        ]
    )


def png_with(*chunks: bytes) -> bytes:
    whole = files.picture()
    return whole[:33] + b"".join(chunks) + whole[33:]


def exif_of_endless_fields() -> bytes:
    fields = b"".join(struct.pack("<HHII", number, 1, 0x7FFFFFFF, 8) for number in range(3000))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 3000) + fields + struct.pack("<I", 8)


def jpeg_of_many_segments() -> bytes:
    whole = files.picture(form="JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", 65_535) + b"Exif\0\0" + bytes(65_527)
    return whole[:2] + segment * 280 + whole[2:]


MIB = 1 << 20

HOSTILE: dict[str, tuple[str, Callable[[], bytes], set[str]]] = {
    # What it is, how it is made, and what may become of it.
    "a document of 40 MiB of nothing": (
        "document",
        lambda: in_word(bomb_of(40 * MIB, '<w:document xmlns:w="w">', "<w:p></w:p>" * 1000, "</w:document>")),
        {"without_text", "too_slow"},
    ),
    "a document of one endless word": (
        "document",
        lambda: in_word(
            bomb_of(32 * MIB, '<w:document xmlns:w="w"><w:p><w:t>', "a" * 1000, "</w:t></w:p></w:document>")
        ),
        {"text"},
    ),
    "a document of one endless attribute": (
        "document",
        lambda: in_word(bomb_of(32 * MIB, '<w:document xmlns:w="w" a="', "a" * 1000, '"/>')),
        {"too_large", "damaged", "too_slow"},
    ),
    "a document of elements within one another": (
        "document",
        lambda: in_word(bomb_of(20 * MIB, '<w:document xmlns:w="w">', "<w:p>" * 1000, "")),
        {"damaged"},
    ),
    "styles that unpack to 32 MiB": ("document", lambda: in_word(WORD, b" " * (32 * MIB)), {"too_large"}),
    "entities that grow": ("document", lambda: in_word(entity_bomb()), {"damaged"}),
    "an entity that is a file of this machine": ("document", lambda: in_word(foreign_file()), {"damaged"}),
    "an archive of 12,000 entries": ("document", lambda: many_entries(12_000), {"too_large"}),
    "an entry that claims four gigabytes": (
        "document",
        lambda: with_claimed_size(in_word(WORD.format("<w:p><w:t>a</w:t></w:p>")), 0xFFFFFFF0),
        {"too_large", "damaged"},
    ),
    "an archive in an archive": (
        "document",
        lambda: files.packed({"a.zip": files.packed({"b": "c" * MIB})}),
        {"unsupported"},
    ),
    "half a document": ("document", lambda: files.contract()[:20_000], {"damaged"}),
    "strings of a workbook that unpack to 64 MiB": (
        "document",
        lambda: in_workbook(xl__sharedStrings_xml=strings(64 * MIB)),
        {"too_large"},
    ),
    "strings of a workbook that just pass": (
        "document",
        lambda: in_workbook(xl__sharedStrings_xml=strings(23 * MIB)),
        {"too_large", "too_slow", "text"},
    ),
    "a cell at the end of the world": (
        "document",
        lambda: in_workbook(
            xl__worksheets__sheet1_xml=SHEET.format('<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>')
        ),
        {"text"},
    ),
    "a row beyond it": (
        "document",
        lambda: in_workbook(
            xl__worksheets__sheet1_xml=SHEET.format('<row r="99999999999"><c r="A99999999999"><v>1</v></c></row>')
        ),
        {"text", "damaged"},
    ),
    "entities in a sheet": (
        "document",
        lambda: in_workbook(xl__worksheets__sheet1_xml=entity_bomb()),
        {"damaged"},
    ),
    "a PDF that draws itself": ("document", pdf_that_draws_itself, {"without_text", "too_large"}),
    "a PDF whose pages are in a circle": ("document", pdf_with_pages_in_a_circle, {"without_text", "damaged"}),
    "a PDF of a packed packed bomb": (
        "document",
        pdf_with_a_packed_bomb,
        {"without_text", "damaged", "too_large"},
    ),
    "half a PDF": ("document", lambda: files.pdf(*["页"] * 50)[:3000], {"without_text", "damaged", "text"}),
    "a PDF that is none": ("document", lambda: b"%PDF-1.7\n" + os.urandom(MIB), {"damaged"}),
    "100 MB of zeros": ("document", lambda: bytes(100_000_000), {"unsupported"}),
    "an old locked workbook": (
        "document",
        lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000) + "EncryptedPackage".encode("utf-16-le"),
        {"encrypted"},
    ),
    "a PNG of four thousand million points": ("picture", lambda: png_that_claims(65_535, 65_535), {"too_large"}),
    "a PNG that just passes, and is short of data": ("picture", lambda: png_that_claims(3000, 3000), {"damaged"}),
    "a PNG with a text that unpacks to 64 MiB": ("picture", png_with_text_bomb, {"damaged", "picture"}),
    "half a JPEG": ("picture", lambda: files.picture((1500, 1000), "JPEG")[:30_000], {"damaged"}),
    "a GIF of one colour and great claims": (
        "picture",
        lambda: b"GIF89a\xff\xff\xff\xff\xf0\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02L\x01\0;",
        {"too_large", "damaged"},
    ),
    "entries that are all the same one": (
        "document",
        lambda: overlapping(9000, 40 * MIB),
        {"too_large", "too_slow"},
    ),
    "a list of 18,000 long names": ("document", lambda: listing_of_long_names(18_000), {"too_large", "damaged"}),
    "a document of a million different elements": (
        "document",
        lambda: in_word('<w:document xmlns:w="w">' + "".join(f"<w:p{n}/>" for n in range(10**6)) + "</w:document>"),
        {"too_large", "without_text", "too_slow"},
    ),
    "a cell of endless text": (
        "document",
        lambda: in_workbook(
            xl__worksheets__sheet1_xml=SHEET.format(
                f'<row r="1"><c t="inlineStr"><is><t>{"a" * (40 * MIB)}</t></is></c></row>'
            )
        ),
        {"too_large"},
    ),
    "a million cells, and no word of how many": (
        "document",
        lambda: in_workbook(
            xl__worksheets__sheet1_xml=SHEET.format(f"<row>{'<c><v>123</v></c>' * 10}</row>" * 100_000)
        ),
        {"text"},
    ),
    "rows of nothing without end": (
        "document",
        lambda: in_workbook(xl__worksheets__sheet1_xml=SHEET.format("<row/>" * (5 * MIB))),
        {"text", "too_large", "too_slow"},
    ),
    "relations of a workbook that unpack to 60 MiB": (
        "document",
        lambda: with_part("xl/_rels/workbook.xml.rels", "<Relationships>" + "<Relationship/>" * (4 * MIB)),
        {"too_large", "damaged"},
    ),
    "entities in a list of kinds": ("document", lambda: with_part("[Content_Types].xml", entity_bomb()), {"damaged"}),
    "a PDF that says one word a million times": (
        "document",
        lambda: pdf_that_says(b"BT /F 9 Tf " + b"(aaaaaaaaaaaa) Tj " * MIB + b"ET"),
        {"too_large", "too_slow", "text"},
    ),
    "a PDF of 300 MiB of blanks": (
        "document",
        lambda: pdf_that_says(b" " * (300 * MIB)),
        {"too_large", "without_text"},
    ),
    "a PDF of objects that unpack to 80 MiB": ("document", pdf_of_packed_objects, {"too_large", "damaged"}),
    "a PDF of pages twenty thousand deep": ("document", lambda: pdf_of_deep_pages(20_000), {"without_text", "damaged"}),
    "a table of one line of 20 MiB": ("document", lambda: b"a," * (10 * MIB), {"text"}),
    "20 MiB of HTML that opens comments": ("document", lambda: b"<!--" * (5 * MIB), {"too_slow", "without_text"}),
    "20 MiB of HTML in one element": ("document", lambda: b"<a " + b'a="b" ' * (3 * MIB), {"too_large", "text"}),
    "a PNG of five thousand texts": (
        "picture",
        lambda: png_with(chunk(b"zTXt", b"a\0\0" + zlib.compress(b"a" * 999_999, 9)) * 5000),
        {"picture", "too_large", "damaged"},
    ),
    "a PNG whose camera never ends": (
        "picture",
        lambda: png_with(chunk(b"eXIf", exif_of_endless_fields())),
        {"picture"},
    ),
    "a JPEG of 18 MB of what cameras write": ("picture", jpeg_of_many_segments, {"picture", "too_large", "too_slow"}),
    "a recording of frames without end": ("recording", lambda: b"#!AMR\n\x7c" + b"\x7c" * (19 * MIB), {"damaged"}),
    "a recording of loud noise without end": ("recording", lambda: b"#!AMR\n" + b"\x04" * (19 * MIB), {"sound"}),
    "a recording that is nearly all a picture": (
        "recording",
        lambda: b"ID3\x03\0\0\x07\x40\0\0APIC\0\xef\0\0\0\0\0image/png\0\x03\0" + os.urandom(16 * MIB),
        {"damaged"},
    ),
    "a recording that claims a picture of 16 MiB": (
        "recording",
        lambda: b"fLaC\x86\xff\xff\xff" + bytes(17 * MIB),
        {"damaged", "too_large"},
    ),
    "noise with the name of a recording": ("recording", lambda: b"#!AMR\n" + os.urandom(MIB), {"damaged", "sound"}),
}

HARMLESS: dict[bytes, Callable[[], bytes]] = {
    b"PK": lambda: files.word("你好"),
    b"%P": lambda: pdf_of([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [] /Count 0 >>"]),
    b"\x89P": files.picture,
    b"\xff\xd8": files.picture,
    b"GI": files.picture,
    b"#!": lambda: files.recording(0.2),
    b"ID": lambda: files.recording(0.2),
    b"fL": lambda: files.recording(0.2),
}


@pytest.fixture(scope="module")
def baselines() -> dict[bytes, int]:
    return {}


@pytest.mark.parametrize("what", HOSTILE)
async def test_it_gets_an_answer_at_a_bounded_price(what: str, tmp_path: Path, baselines: dict[bytes, int]) -> None:
    kind, make, outcomes = HOSTILE[what]
    most = 1 if "too_slow" in outcomes else int(MOST_SECONDS)
    data = make()
    extension = "html" if "HTML" in what else kind_of(data, "")[1]
    job = msgspec.structs.replace(
        JOB, kind=kind, extension=extension, processor_seconds=most, memory_bytes=MEMORY_BYTES[kind]
    )
    beyond = 0
    if kind != "document":
        # Their programs are large themselves.
        harmless = HARMLESS[data[:2]]()
        if harmless[:2] not in baselines:
            own = msgspec.structs.replace(job, extension=kind_of(harmless, "")[1])
            _, _, baselines[harmless[:2]] = await measured(tmp_path, harmless, own)
        beyond -= baselines[harmless[:2]]
    outcome, seconds, peak = await measured(tmp_path, data, job)
    became = outcome.problem if isinstance(outcome, Unread) else type(outcome).__name__.lower()
    beyond += peak
    print(f"{what}: {became}, {seconds:.2f} s, {beyond / MIB:.0f} MiB")
    assert became in outcomes
    assert beyond < MOST_BYTES
    assert seconds < most + 0.5
