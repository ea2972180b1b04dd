"""Pictures: shown as they were taken, no larger than a model looks at, and without what a camera writes into them."""

import io
from typing import BinaryIO, Final

from PIL import Image, ImageOps

from server.media.job import CannotRead, Picture

_FORMATS: Final = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
_PASSED: Final = {"PNG": "image/png", "JPEG": "image/jpeg", "GIF": "image/gif", "WEBP": "image/webp"}
"""What vision models take as it is."""

_PERSONAL: Final = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif", "photoshop", "comment"})
"""Where a picture says by whom, where and when it was taken."""

_MAX_DECODED_BYTES: Final = 42 << 20
"""What a picture may take when it is unpacked, after the shrinking that JPEG can do while it is read: eleven
million points in colour. A quarter of it is needed beside it for shrinking."""

_BYTES_PER_POINT: Final = {"L": 1, "1": 5, "P": 5}
"""Other modes have four, whatever their bands. Those that are converted first have one of their own beside them."""

_SLACK: Final = 1.3
"""Dividing by a whole number takes no memory beside its result. So much smaller than allowed it may make a picture."""

_LEAST_EDGE: Final = 256
_SMALLER: Final = 0.75
_LEAST_QUALITY: Final = 60


def read_picture(file: BinaryIO, size: int, *, longest_edge: int, quality: int, max_bytes: int) -> Picture:
    """The picture as a model shall see it.

    Args:
        size: of the file, in bytes.

    Raises:
        CannotRead: ``too_large`` if it takes too much memory, ``damaged`` if it cannot be shown.
    """
    try:
        image: Image.Image = Image.open(file, formats=_FORMATS)
    except Image.DecompressionBombError:
        raise CannotRead("too_large") from None
    known = image.format or ""
    passed = known in _PASSED and max(image.size) <= longest_edge and size <= max_bytes
    if not passed:
        factor = _factor(image, longest_edge)
        image.draft("RGB", (image.width // factor, image.height // factor))
    if (
        image.width * image.height * _BYTES_PER_POINT.get(image.mode, 5 if image.mode == "P" else 4)
        > _MAX_DECODED_BYTES
    ):
        raise CannotRead("too_large")
    image.load()
    if passed and not image.getexif() and _PERSONAL.isdisjoint(image.info):
        return Picture(_PASSED[known])
    return _made_anew(image, longest_edge, quality, max_bytes)


def _factor(image: Image.Image, longest_edge: int) -> int:
    """By how much a picture can be divided without becoming much smaller than it may be."""
    return max(1, int(max(image.size) * _SLACK / longest_edge))


def _made_anew(image: Image.Image, longest_edge: int, quality: int, max_bytes: int) -> Picture:
    # Shrunk first, in its own mode where that can be done: turning and converting make copies.
    if image.mode in ("P", "PA", "1", "I", "F", "I;16"):
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    if (factor := _factor(image, longest_edge)) > 1:
        image = image.reduce(factor)
    if max(image.size) > longest_edge:
        try:
            image.thumbnail((longest_edge, longest_edge), Image.Resampling.LANCZOS)
        except MemoryError:
            # This takes as much again as the picture; halving takes a quarter.
            image = image.reduce(2)
    image = ImageOps.exif_transpose(image)
    if "A" in image.getbands():
        drawn = _written(image.convert("RGBA"), "PNG", quality)
        if len(drawn) <= max_bytes:
            return Picture("image/png", drawn)
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    image = image.convert("RGB")
    while True:
        drawn = _written(image, "JPEG", quality)
        if len(drawn) <= max_bytes:
            return Picture("image/jpeg", drawn)
        if quality > _LEAST_QUALITY:
            quality = max(_LEAST_QUALITY, quality - 15)
            continue
        edge = int(max(image.size) * _SMALLER)
        if edge < _LEAST_EDGE:
            raise CannotRead("too_large")
        image.thumbnail((edge, edge), Image.Resampling.LANCZOS)


def _written(image: Image.Image, form: str, quality: int) -> bytes:
    drawn = io.BytesIO()
    # Nothing of `image.info` is given, and so nothing of it is written but what the form needs.
    image.info = {}
    image.save(drawn, form, optimize=False, **({"quality": quality} if form == "JPEG" else {}))
    return drawn.getvalue()
