"""What is read of documents. In this process, for speed; ``test_reading.py`` has the one that reads in service."""

import codecs
import io
import zipfile

import pytest

from server.media.bounded_text import BoundedText, Enough
from server.media.job import CannotRead
from server.media.packed import opened
from server.media.plain_text import decoded, read_plain
from server.media.portable_document import read_pdf
from server.media.slides import read_slides
from server.media.word_document import read_word
from server.media.workbook import read_workbook
from tests.server.media import files


def in_word(data: bytes, most: int = 10_000) -> str:
    text = BoundedText(most)
    with opened(io.BytesIO(data)) as archive:
        read_word(archive, text)
    return text.text()


def test_a_document_becomes_markdown() -> None:
    assert in_word(files.contract()) == (
        "# 采购合同\n\n甲方：某公司\n- 三十天内付款\n\n| 品名 | 单\\|价 |\n| --- | --- |\n| 螺丝 钉 | 12 |\n\n签字"
    )


def test_what_was_struck_out_and_what_is_shown_twice_is_read_as_a_person_does() -> None:
    body = (
        '<w:document xmlns:w="w" xmlns:mc="mc"><w:body><w:p><w:del><w:delText>旧</w:delText></w:del>'
        "<mc:AlternateContent><mc:Choice><w:t>新</w:t></mc:Choice><mc:Fallback><w:t>新</w:t></mc:Fallback>"
        "</mc:AlternateContent><w:instrText>PAGE</w:instrText><w:tab/><w:t>尾</w:t></w:p></w:body></w:document>"
    )
    assert in_word(files.packed({"word/document.xml": body})) == "新\t尾"


def test_a_workbook_becomes_tables_of_the_sheets_that_are_seen() -> None:
    text, file = BoundedText(10_000), io.BytesIO(files.workbook())
    with opened(file) as archive:
        read_workbook(archive, file, text)
    assert text.text() == (
        "## 工作表：报价\n\n| 品名 | 数量 | 日期 | 单价 |\n| --- | --- | --- | --- |\n| 螺丝 | 3 | 2026-01-02 | 0.3 |\n"
        "| 螺母\\|大 | 是 | 2026-01-02 03:04:00 |  |\n\n## 工作表：备注\n\n|  | 下周到货 |\n| --- | --- |"
    )


def test_slides_come_in_their_order() -> None:
    text = BoundedText(1000)
    with opened(io.BytesIO(files.slides(*map(str, range(1, 12))))) as archive:
        read_slides(archive, text)
    assert [line for line in text.text().splitlines() if line.isdigit()] == list(map(str, range(1, 12)))
    assert "## 第 11 页\n11" in text.text()


def test_pages_come_in_their_order() -> None:
    text = BoundedText(1000)
    read_pdf(io.BytesIO(files.pdf("第一页\n总价 12,000 元", "第二页")), text)
    assert text.text() == "第一页\n总价 12,000 元\n第二页"


SHORT = files.word("一二三四五", "六七八九十", "完")


@pytest.mark.parametrize("most", range(1, 20))
def test_text_is_cut_where_there_is_enough(most: int) -> None:
    whole = "一二三四五\n六七八九十\n完"
    text = BoundedText(most)
    with opened(io.BytesIO(SHORT)) as archive:
        try:
            read_word(archive, text)
        except Enough:
            assert text.cut
        assert text.text() == whole[:most].strip()
        assert text.cut == (most < len(whole) + 1)  # the last line ends too


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("你好".encode(), "你好"),
        (codecs.BOM_UTF8 + "你好".encode(), "你好"),
        ("你好，编号：㐂𠮷".encode("gb18030"), "你好，编号：㐂𠮷"),
        (codecs.BOM_UTF16_LE + "你好".encode("utf-16-le"), "你好"),
        (codecs.BOM_UTF16_BE + "你好".encode("utf-16-be"), "你好"),
        (codecs.BOM_UTF32_LE + "你好".encode("utf-32-le"), "你好"),
        (b"", ""),
    ],
)
def test_texts_are_read_in_the_ways_in_which_they_are_written(data: bytes, said: str) -> None:
    assert decoded(data, whole=True) == said


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16"])
@pytest.mark.parametrize("length", range(6, 30))
def test_a_text_that_is_cut_in_a_character_loses_that_alone(encoding: str, length: int) -> None:
    said = "甲乙丙丁戊己庚辛"
    found = decoded(said.encode(encoding)[:length], whole=False)
    assert found
    assert said.startswith(found)


@pytest.mark.parametrize("data", [bytes(range(256)) * 8, b"\x00" * 100, b"\xff" * 100, b"a\x01b\x02c"])
def test_what_is_no_text_is_not_taken_for_one(data: bytes) -> None:
    with pytest.raises(CannotRead) as refused:
        decoded(data, whole=True)
    assert refused.value.problem == "unsupported"


def test_a_web_page_is_read_as_it_is_shown() -> None:
    page = (
        "<html><head><title>题</title><style>p{}</style></head><body><h1>通知</h1><p>周五<b>停电</b>&amp;断网</p>"
        "<script>alert(1)</script><table><tr><td>甲</td><td>乙</td></tr></table></body></html>"
    )
    text = BoundedText(1000)
    read_plain(io.BytesIO(page.encode()), "html", text, 1000)
    assert [line.strip() for line in text.text().splitlines() if line.strip()] == ["通知", "周五 停电 &断网", "甲  乙"]


def test_a_table_with_commas_stays_as_it_is() -> None:
    text = BoundedText(1000)
    read_plain(io.BytesIO("品名,价\r\n螺丝,1\r\n".encode("gb18030")), "csv", text, 1000)
    assert text.text() == "品名,价\n螺丝,1"


def test_an_archive_with_entries_that_unpack_at_once_is_not_opened() -> None:
    data = files.packed({"word/document.xml": "<w/>"}, zipfile.ZIP_LZMA)
    with pytest.raises(CannotRead) as refused:
        in_word(data)
    assert refused.value.problem == "damaged"
