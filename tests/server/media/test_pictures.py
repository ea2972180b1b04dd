"""What becomes of pictures."""

import io

import pytest
from PIL import Image

from server.media.job import Picture
from server.media.picture import read_picture
from tests.server.media import files

MOST = 2 << 20


def read(data: bytes, *, edge: int = 2048, max_bytes: int = MOST) -> Picture:
    return read_picture(io.BytesIO(data), len(data), edge=edge, quality=85, max_bytes=max_bytes)


def shown(picture: Picture) -> Image.Image:
    image = Image.open(io.BytesIO(picture.data))
    image.load()
    assert picture.mime_type == Image.MIME[image.format or ""]
    return image


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP"])
def test_a_small_one_passes_as_it_is(form: str) -> None:
    assert read(files.picture(form=form)) == Picture(f"image/{form.lower()}")


@pytest.mark.parametrize("form", ["BMP", "TIFF"])
def test_one_that_no_model_takes_is_made_anew(form: str) -> None:
    assert shown(read(files.picture(form=form))).size == (64, 48)


@pytest.mark.parametrize(
    ("size", "form", "mode"),
    [
        ((1000, 750), "JPEG", "RGB"),
        ((750, 500), "JPEG", "L"),
        ((750, 500), "JPEG", "CMYK"),
        ((650, 500), "PNG", "RGB"),
        ((750, 300), "PNG", "P"),
        ((1250, 150), "PNG", "1"),
        ((150, 1250), "WEBP", "RGB"),
    ],
)
def test_a_large_one_is_shrunk(size: tuple[int, int], form: str, mode: str) -> None:
    image = shown(read(files.picture(size, form, mode), edge=400))
    points, most = image.width * image.height, min(400 * 400, size[0] * size[1])
    assert most / 1.31**2 / 1.02 <= points <= most or max(image.size) <= 1200
    assert image.width / image.height == pytest.approx(size[0] / size[1], rel=0.02)


def test_one_of_many_bytes_is_made_to_fit() -> None:
    data = files.picture((600, 600))
    assert len(data) > 250_000
    picture = read(data, max_bytes=60_000)
    assert len(picture.data) <= 60_000
    assert shown(picture).mode == "RGB"


def test_what_one_sees_through_stays_so_where_it_fits() -> None:
    image = Image.new("RGBA", (3000, 100), (255, 0, 0, 128))
    file = io.BytesIO()
    image.save(file, "PNG")
    assert shown(read(file.getvalue(), edge=400)).mode == "RGBA"
    noise = Image.effect_noise((500, 500), 90).convert("RGBA")
    noise.putalpha(128)
    file = io.BytesIO()
    noise.save(file, "PNG")
    assert shown(read(file.getvalue(), max_bytes=90_000)).mode == "RGB"


@pytest.mark.parametrize("size", [(64, 48), (2600, 300)])
def test_a_photo_is_upright_and_says_nothing_of_its_owner(size: tuple[int, int]) -> None:
    data = files.located_photo(size)
    assert b"PhoneMaker" in data
    picture = read(data)
    image = shown(picture)
    assert image.width < image.height
    assert not image.getexif()
    assert b"PhoneMaker" not in picture.data


def test_a_comment_in_it_is_left_out() -> None:
    file = io.BytesIO()
    Image.new("RGB", (10, 10)).save(file, "JPEG", comment=b"taken by me")
    assert b"taken by me" not in read(file.getvalue()).data
