"""Pictures of every kind, honest and hostile, through the re-encoder."""

import contextlib
import io
import random
import struct
import time
import zlib

import pytest
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from user_service.avatars.images import SIDE, TooManyPixels, UnreadablePicture, reencode

SECRET = b"canary-<script>alert(1)</script>"


def drawn(mode: str = "RGB", size: tuple[int, int] = (900, 600)) -> Image.Image:
    """Left half red, right half green."""
    image = Image.new(mode, size, "green" if mode != "L" else 90)
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 2, size[1]), fill="red" if mode != "L" else 200)
    return image


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def avatar(picture: bytes) -> Image.Image:
    made = Image.open(io.BytesIO(reencode(io.BytesIO(picture))))
    assert made.format == "WEBP"
    return made


def png(width: int, height: int, *chunks: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + b"".join(chunks)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def with_jpeg_size(picture: bytes, width: int, height: int) -> bytes:
    """The same JPEG, claiming another size in its frame header."""
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        if (at := picture.find(marker)) > 0:
            return picture[: at + 5] + struct.pack(">HH", height, width) + picture[at + 9 :]
    raise AssertionError("no frame header")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_picture_of_each_kind_becomes_a_small_webp(kind: str) -> None:
    made = avatar(saved(drawn(), kind))
    assert made.size == (SIDE, 341)
    red, green, _ = made.convert("RGB").getpixel((10, 10))  # type: ignore[misc]  # a pixel of RGB is three numbers
    assert red > 200 > green


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "CMYK", "I;16"])
def test_every_colour_mode_is_read(mode: str) -> None:
    image = drawn().convert("L" if mode == "I;16" else mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    assert avatar(saved(image.convert("I;16") if mode == "I;16" else image, kind)).size == (SIDE, 341)


def test_a_small_picture_is_not_blown_up() -> None:
    assert avatar(saved(drawn(size=(40, 20)), "PNG")).size == (40, 20)


def test_transparency_survives() -> None:
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert avatar(saved(clear, "PNG")).convert("RGBA").getpixel((5, 5))[3] == 0  # type: ignore[index]  # RGBA: a tuple


def test_of_a_moving_picture_the_first_frame_is_taken() -> None:
    frames = [drawn(size=(60, 40)), Image.new("RGB", (60, 40), "blue")]
    for kind in ("GIF", "WEBP"):
        made = avatar(saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=100))
        assert getattr(made, "n_frames", 1) == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_no_metadata_survives_and_the_picture_stands_upright(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right to see it upright
    exif[0x010E] = SECRET.decode()
    options: dict[str, object] = {"exif": exif, "icc_profile": SECRET * 20}
    if kind == "PNG":
        options["pnginfo"] = (text := PngInfo())
        text.add_text("Comment", SECRET.decode())
    if kind != "PNG":
        options["xmp"] = SECRET
    original = saved(drawn(), kind, **options)
    assert SECRET in original
    made = reencode(io.BytesIO(original + SECRET))
    assert not [mark for mark in (b"canary", b"EXIF", b"XMP", b"ICCP") if mark in made]
    assert Image.open(io.BytesIO(made)).size == (341, SIDE)


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<html><script>alert(1)</script></html>",
        b"%PDF-1.7",
        b"GIF89a",
        b"\xff\xd8\xff\xe0",
        b"RIFF\x00\x00\x00\x00WEBPEVIL",
        saved(drawn(), "TIFF"),
        saved(drawn(), "BMP"),
        saved(drawn(), "JPEG")[:4000],
        saved(drawn(), "PNG")[:600],
        saved(drawn(), "WEBP")[:300],
    ],
    ids=lambda file: repr(file[:12]),
)
def test_what_is_no_whole_picture_is_refused(file: bytes) -> None:
    with pytest.raises(UnreadablePicture):
        reencode(io.BytesIO(file))


WEBP = b"RIFF\x00\x10\x00\x00WEBP"
WEBP_EXTENDED = WEBP + b"VP8X\x0a\x00\x00\x00" + bytes(4) + b"\xfe\x3f\x00" * 2 + bytes(4000)
WEBP_LOSSLESS = WEBP + b"VP8L\x00\x10\x00\x00\x2f" + b"\xff\xff\xff\x0f" + bytes(4000)
WEBP_LOSSY = WEBP + b"VP8 \x00\x10\x00\x00" + b"\x30\x01\x00\x9d\x01\x2a" + b"\xff\x3f" * 2 + bytes(4000)
GIF_SCREEN = struct.pack("<HH", 65535, 65535) + b"\0\0\0"
GIF = b"GIF89a" + GIF_SCREEN + b"," + struct.pack("<HHHH", 0, 0, 65535, 65535) + b"\0\x08\0;"


BOMBS = {
    "png": png(50_000, 50_000),
    "png a row too many": png(4001, 4000),
    "gif": GIF,
    "webp extended": WEBP_EXTENDED,
    "webp lossless": WEBP_LOSSLESS,
    "webp lossy": WEBP_LOSSY,
    "jpeg": with_jpeg_size(saved(drawn(), "JPEG"), 60_000, 60_000),
    "jpeg progressive": with_jpeg_size(saved(drawn(), "JPEG", progressive=True), 5000, 5000),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_before_it_is_decoded(bomb: bytes) -> None:
    begun = time.perf_counter()
    with pytest.raises(TooManyPixels):
        reencode(io.BytesIO(bomb))
    assert time.perf_counter() - begun < 0.2


def with_list_of_pictures(jpeg: bytes) -> bytes:
    """The same JPEG with the list of two pictures (CIPA DC-007) that many telephones write: Pillow's MPO."""
    entries = [(0xB000, 7, 4, b"0100"), (0xB001, 4, 1, struct.pack("<L", 2)), (0xB002, 7, 32, b"2\0\0\0")]
    tags = b"".join(struct.pack("<HHL", *tag, count) + value for *tag, count, value in entries)
    body = b"MPF\0II*\0\x08\0\0\0" + struct.pack("<H", 3) + tags + bytes(4)
    body += struct.pack("<LLLHH", 0x030000, len(jpeg), 0, 0, 0) + struct.pack("<LLLHH", 0, len(jpeg), 0, 0, 0)
    return jpeg[:2] + b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def test_a_jpeg_of_a_thousand_scans_is_refused() -> None:
    picture = saved(drawn(size=(64, 64)), "JPEG", progressive=True)
    last_scan = picture[picture.rfind(b"\xff\xda") : -2]
    bomb = picture[:-2] + last_scan * 1000 + b"\xff\xd9"
    for listed in (bomb, with_list_of_pictures(bomb)):
        with pytest.raises(TooManyPixels):
            reencode(io.BytesIO(listed))


def test_a_jpeg_of_endless_notes_is_refused_before_they_are_put_together() -> None:
    picture = saved(drawn(size=(64, 64)), "JPEG")
    notes = b"\xff\xe1\0\x12Exif\0\0 ten bytes" * 20_000
    with pytest.raises(UnreadablePicture):
        reencode(io.BytesIO(picture[:2] + notes + picture[2:]))
    assert avatar(picture[:2] + notes[: 20 * 300] + picture[2:]).size == (64, 64)


def test_a_jpeg_that_lists_further_pictures_is_one_like_any_other() -> None:
    photo = with_list_of_pictures(saved(drawn(size=(8000, 6000)), "JPEG"))
    assert Image.open(io.BytesIO(photo)).format == "MPO"
    assert avatar(photo).size == (SIDE, 384)


def test_a_jpeg_whose_only_scan_lacks_a_component_counts_at_full_size() -> None:
    picture = bytearray(with_jpeg_size(saved(drawn(), "JPEG"), 5000, 5000))
    reencode(io.BytesIO(picture + b""))  # 25 million pixels in one complete scan: decoded small
    picture[picture.find(b"\xff\xda") + 4] = 1
    with pytest.raises(TooManyPixels):
        reencode(io.BytesIO(picture))


def test_the_photo_of_a_telephone_passes() -> None:
    photo = saved(drawn(size=(8000, 6000)), "JPEG")
    assert avatar(photo).size == (SIDE, 384)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # "Corrupt EXIF data", which is the point here
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_damage_anywhere_is_an_answer_and_never_a_crash(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    options = {} if kind == "GIF" else {"exif": exif}
    whole = saved(drawn(size=(48, 32)), kind, **options)
    chance = random.Random(kind)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        with contextlib.suppress(UnreadablePicture, TooManyPixels):
            reencode(io.BytesIO(damaged))
