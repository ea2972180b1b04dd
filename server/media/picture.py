"""Pictures: shown as they were taken, no larger than a model looks at, and without what a camera writes into them."""

import io
import math
from contextlib import suppress
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

_WEBP_BYTES_PER_POINT: Final = 20
"""Its decoder has two pictures of its own, to draw films, and hands over a copy."""

_PROGRESSIVE_BYTES_PER_POINT: Final = 3
"""What a JPEG that comes in passes takes until the last of them, whatever it is shrunk to."""

_SLACK: Final = 1.3
"""Dividing by a whole number takes no memory beside its result. So much smaller than allowed it may make a picture."""

_LONGEST: Final = 3
"""How often the edge fits into the longest side at the most: screenshots of long talks stay readable."""

_STRIP_POINTS: Final = 1 << 18
_LEAST_EDGE: Final = 256
_SMALLER: Final = 0.75
_LEAST_QUALITY: Final = 60


def read_picture(file: BinaryIO, size: int, *, edge: int, quality: int, max_bytes: int) -> Picture:
    """The picture as a model shall see it.

    Args:
        size: of the file, in bytes.
        edge: of the square with as many points as it may have.

    Raises:
        CannotRead: ``too_large`` if it takes too much memory, ``damaged`` if it cannot be shown.
    """
    try:
        image: Image.Image = Image.open(file, formats=_FORMATS)
    except Image.DecompressionBombError:
        raise CannotRead("too_large") from None
    known = image.format or ""
    scale = _scale(image.size, edge)
    passed = known in _PASSED and scale == 1 and size <= max_bytes
    if image.info.get("progressive") and image.width * image.height * _PROGRESSIVE_BYTES_PER_POINT > _MAX_DECODED_BYTES:
        raise CannotRead("too_large")
    if not passed:
        factor = _factor(scale)
        image.draft("RGB", (image.width // factor, image.height // factor))
    bytes_per_point = _WEBP_BYTES_PER_POINT if known == "WEBP" else _BYTES_PER_POINT.get(image.mode, 4)
    if image.width * image.height * bytes_per_point > _MAX_DECODED_BYTES:
        raise CannotRead("too_large")
    image.load()
    if passed and not image.getexif() and _PERSONAL.isdisjoint(image.info):
        return Picture(_PASSED[known])
    # One after the other, so that the large one is let go of before the next step makes copies.
    image = _shrunk(image, edge)
    image = ImageOps.exif_transpose(image)
    return _made_anew(image, quality, max_bytes)


def _scale(size: tuple[int, int], edge: int) -> float:
    width, height = size
    return min(1.0, edge / math.sqrt(max(1, width * height)), _LONGEST * edge / max(1, width, height))


def _factor(scale: float) -> int:
    """By how much a picture can be divided without becoming much smaller than it may be."""
    return max(1, int(_SLACK / scale))


def _shrunk(image: Image.Image, edge: int) -> Image.Image:
    # In its own mode where that can be done: converting makes a copy.
    if image.mode in ("P", "PA", "1", "I", "F", "I;16"):
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    scale = _scale(image.size, edge)
    if (factor := _factor(scale)) > 1:
        image = _divided(image, factor)
        scale = _scale(image.size, edge)
    if scale < 1:
        with suppress(MemoryError):
            image.thumbnail((int(image.width * scale), int(image.height * scale)), Image.Resampling.LANCZOS)
            return image
        # That takes as much again as the picture; dividing takes a quarter.
        image = _divided(image, 2)
    return image


def _divided(image: Image.Image, factor: int) -> Image.Image:
    """The picture with its sides divided, strip by strip: one that can be seen through is copied on the way."""
    width, height = math.ceil(image.width / factor), math.ceil(image.height / factor)
    divided = Image.new(image.mode, (width, height))
    divided.info = image.info
    rows = max(1, _STRIP_POINTS // image.width // factor) * factor
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        divided.paste(strip.reduce(factor), (0, top // factor))
    return divided


def _made_anew(image: Image.Image, quality: int, max_bytes: int) -> Picture:
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
