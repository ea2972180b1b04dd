"""Files as people send them, made by other people's programs where there are some."""

import array
import datetime
import io
import math
import zipfile
from typing import Any

import av
import docx
import openpyxl
from docx.document import Document
from PIL import Image
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen import canvas


def saved(document: Any) -> bytes:
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def word(*paragraphs: str) -> bytes:
    document: Document = docx.Document()
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    return saved(document)


def contract() -> bytes:
    """Headings, a list and a table with what Markdown minds."""
    document: Document = docx.Document()
    document.add_heading("采购合同", 1)
    document.add_paragraph("甲方：某公司")
    document.add_paragraph("三十天内付款", style="List Bullet")
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip(table._cells, ("品名", "单|价", "螺丝\n钉", "12"), strict=True):
        cell.text = text
    document.add_paragraph("签字")
    return saved(document)


def workbook() -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "报价"
    sheet.append(["品名", "数量", "日期", "单价"])
    sheet.append([])
    sheet.append(["螺丝", 3, datetime.date(2026, 1, 2), 0.1 + 0.2])
    sheet.append(["螺母|大", True, datetime.datetime(2026, 1, 2, 3, 4), None])  # noqa: DTZ001 - workbooks know no zones
    hidden = book.create_sheet("底价")
    hidden.sheet_state = "hidden"
    hidden.append(["不可见"])
    book.create_sheet("备注").append(["", "下周到货"])
    return saved(book)


def slides(*texts: str) -> bytes:
    parts = {
        f"ppt/slides/slide{number}.xml": '<p:sld xmlns:p="p" xmlns:a="a"><a:p><a:r><a:t>'
        + text
        + "</a:t></a:r></a:p></p:sld>"
        for number, text in enumerate(texts, 1)
    }
    return packed({"ppt/presentation.xml": "<p/>", **parts})


def packed(parts: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return file.getvalue()


def pdf(*pages: str, password: str | None = None) -> bytes:
    pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))
    file = io.BytesIO()
    drawing = canvas.Canvas(file, encrypt=password)
    for page in pages:
        drawing.setFont("STSong-Light", 12)
        for number, line in enumerate(page.splitlines()):
            drawing.drawString(50, 800 - 18 * number, line)
        drawing.showPage()
    drawing.save()
    return file.getvalue()


def scan() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((300, 400), 60).convert("RGB").save(file, "PDF")
    return file.getvalue()


def picture(size: tuple[int, int] = (64, 48), form: str = "PNG", mode: str = "RGB", **more: Any) -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 40).convert(mode).save(file, form, **more)
    return file.getvalue()


def located_photo(size: tuple[int, int] = (64, 48)) -> bytes:
    """A photo that lies on its side, and says where it was taken."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "PhoneMaker"
    exif.get_ifd(0x8825)[2] = (31.0, 14.0, 9.0)
    return picture(size, "JPEG", exif=exif.tobytes())


def recording(seconds: float = 1.0, form: str = "amr", codec: str = "libopencore_amrnb", rate: int = 8000) -> bytes:
    """A tone of 440 Hz."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        size = rate // 50
        for number in range(int(seconds * 50)):
            frame = av.AudioFrame(format="s16", layout="mono", samples=size)
            frame.sample_rate, frame.pts = rate, number * size
            wave = [int(8000 * math.sin(2 * math.pi * 440 * (number * size + i) / rate)) for i in range(size)]
            frame.planes[0].update(array.array("h", wave).tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
