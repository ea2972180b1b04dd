"""PDF: the text of its pages, in the order in which PDFium reads them."""

from typing import BinaryIO, Final

import pypdfium2 as pdfium

from server.media.bounded_text import BoundedText
from server.media.job import CannotRead

_MAX_PAGES: Final = 2000
_WRONG_PASSWORD: Final = 4
"""``FPDF_ERR_PASSWORD``: it wants one, and none was given."""


def read_pdf(file: BinaryIO, text: BoundedText) -> None:
    """Reads the pages one by one.

    Raises:
        CannotRead: ``encrypted`` if it wants a password, ``damaged`` if it is no PDF after all.
        Enough: if there is enough text.
    """
    try:
        document = pdfium.PdfDocument(file)
    except pdfium.PdfiumError as error:
        locked = getattr(error, "err_code", None) == _WRONG_PASSWORD
        raise CannotRead("encrypted" if locked else "damaged") from None
    for number in range(min(len(document), _MAX_PAGES)):
        try:
            page = document[number]
            page_text = page.get_textpage()
            said = page_text.get_text_bounded()
        except pdfium.PdfiumError:
            continue  # a page that is broken does not spoil the others
        page_text.close()
        page.close()
        text.line(said.replace("\r\n", "\n").replace("\r", "\n"))
