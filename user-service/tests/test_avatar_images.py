"""Pictures of every kind, honest and hostile, through the re-encoder."""

import contextlib
import io
import random
import struct
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from pictures import (
    black_rows,
    chunk,
    cmyk_profile,
    exif,
    gif,
    greedy_exif,
    grey_profile,
    jpeg,
    png,
    segment,
    swapped_profile,
)
from PIL import Image, ImageDraw, ImageOps
from PIL.PngImagePlugin import PngInfo

from user_service.avatars.images import SIDE, TooManyPixels, UnreadablePicture, reencode

MIB = 2**20

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
        png(8, 8, colours=3, rows=[bytes(8)] * 8),  # its palette is missing
        png(8, 8, chunk(b"IEND", b""), colours=3),  # and its pixels are, too
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
FILLED_FIRST = b"!\xf9\x04\x08\0\0\0\0"  # a disposal for which Pillow fills a picture as it opens the file


BOMBS = {
    "png": png(50_000, 50_000),
    "png a row too many": png(4001, 4000),
    "gif": gif(65_535, 65_535),
    "gif that is filled first": gif(65_535, 65_535, FILLED_FIRST),
    "webp extended": WEBP_EXTENDED,
    "webp lossless": WEBP_LOSSLESS,
    "webp lossy": WEBP_LOSSY,
    "jpeg": jpeg(60_000, 60_000)[:5000],
    "jpeg progressive": jpeg(16_000, 16_000, frame=0xC2),
    "jpeg progressive and wide": jpeg(65_500, 2047, frame=0xC2),
    "jpeg of many scans": jpeg(8000, 8000, frame=0xC2, components=1, scans=40),
    "jpeg of many small scans": jpeg(64, 64, frame=0xC2, components=1, scans=100_000),
}


@pytest.mark.quiet
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_before_it_is_decoded(bomb: bytes) -> None:
    begun = time.perf_counter()
    with pytest.raises(TooManyPixels):
        reencode(io.BytesIO(bomb))
    assert time.perf_counter() - begun < 0.2


GREEDY = greedy_exif(60_000)
CROWDED = {
    "jpeg of notes": jpeg(64, 64, before=segment(0xE1, b"Exif\0\0 ten bytes") * 20_000),
    "jpeg of tables": jpeg(64, 64, before=segment(0xDB, (b"\0" + b"\1" * 64) * 1000) * 70),
    "png of chunks": png(8, 8, chunk(b"teXt", b"") * 400_000),
    "png of pieces": png(8, 8, chunk(b"IDAT", b"") * 400_000),
    "gif of notes": gif(8, 8, b"!\xfe\x01x\0" * 1_000_000),
    "gif of one note": gif(8, 8, b"!\xfe" + b"\x01x" * 2_500_000 + b"\0"),
    "jpeg of nothing": jpeg(64, 64, before=b"\xff" * 5_000_000),
    "jpeg arithmetic": jpeg(4000, 4000, frame=0xC9),
    "jpeg lossless": jpeg(4000, 4000, frame=0xC3),
}


@pytest.mark.parametrize("picture", CROWDED.values(), ids=CROWDED)
def test_what_only_keeps_a_reader_busy_is_refused(picture: bytes) -> None:
    begun = time.thread_time()
    with pytest.raises(UnreadablePicture):
        reencode(io.BytesIO(picture))
    assert time.thread_time() - begun < 0.3


# Of everything that is taken, what costs most: at the limit, within 5 MiB.
PALETTE = chunk(b"PLTE", bytes(768))
COSTLY: dict[str, Callable[[], bytes]] = {
    "png": lambda: png(4000, 4000, colours=6, rows=black_rows(4000, 4000, 8, 6)),
    "png of 16 bits": lambda: png(4000, 4000, depth=16, colours=6, rows=black_rows(4000, 4000, 16, 6)),
    "png interlaced": lambda: png(
        4000, 4000, depth=16, colours=6, interlaced=True, rows=black_rows(4000, 4000, 16, 6, interlaced=True)
    ),
    "png of grey and alpha": lambda: png(4000, 4000, depth=16, colours=4, rows=black_rows(4000, 4000, 16, 4)),
    "png of 16-bit grey": lambda: png(
        3460, 3460, chunk(b"tRNS", b"\0\0"), depth=16, colours=0, rows=black_rows(3460, 3460, 16, 0)
    ),
    "png of a palette": lambda: png(
        4000, 4000, PALETTE, chunk(b"tRNS", bytes(256)), colours=3, rows=black_rows(4000, 4000, 8, 3)
    ),
    "gif": lambda: saved(Image.new("P", (4000, 4000)), "GIF", transparency=0, disposal=2),
    "jpeg": lambda: jpeg(16_000, 16_000),
    "jpeg of four colours": lambda: jpeg(13_000, 13_000, components=4),
    "jpeg wide": lambda: jpeg(65_500, 2047),
    "jpeg progressive": lambda: jpeg(4800, 4800, frame=0xC2),
    "jpeg progressive of four colours": lambda: jpeg(4100, 4100, frame=0xC2, components=4),
    "jpeg of many scans": lambda: jpeg(5500, 5500, frame=0xC2, components=1, scans=30),
    "jpeg with Exif": lambda: jpeg(64, 64, before=segment(0xE1, b"Exif\0\0" + GREEDY) * 80),
    "jpeg with a list": lambda: jpeg(64, 64, before=segment(0xE2, b"MPF\0" + GREEDY)),
    "webp": lambda: saved(
        Image.new("RGBA", (2990, 2990), (255, 0, 0, 90)), "WEBP", lossless=True, method=0, quality=0
    ),
    "png in pieces": lambda: png(8, 8, chunk(b"IDAT", b"") * 19_000, rows=[bytes(24)] * 8),
    "png of profiles": lambda: png(
        8, 8, chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(6_000_000))) * 700, rows=[bytes(24)] * 8
    ),
    "png with Exif": lambda: png(8, 8, chunk(b"eXIf", greedy_exif(4_000_000)), rows=[bytes(24)] * 8),
}
MEASURE = textwrap.dedent(
    """
    import pathlib, sys, time
    from user_service.avatars.images import reencode

    def most():
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the most so far is what it is now
        status = pathlib.Path("/proc/self/status")
        yield from iter(lambda: int(status.read_text().partition("VmHWM:")[2].split()[0]) // 1024, None)

    small, costly = sys.argv[1:]
    with open(small, "rb") as file:
        reencode(file)  # what is loaded at first use
    seen = most()
    before, began = next(seen), time.thread_time()
    with open(costly, "rb") as file:
        reencode(file)
    print(next(seen) - before, time.thread_time() - began)
    """
)


@pytest.mark.quiet
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("make", COSTLY.values(), ids=COSTLY)
def test_the_costliest_picture_that_is_taken_is_bounded(make: Callable[[], bytes], tmp_path: Path) -> None:
    small, costly = tmp_path / "small", tmp_path / "costly"
    small.write_bytes(saved(drawn(), "JPEG"))
    costly.write_bytes(make())
    assert costly.stat().st_size < 5.25 * MIB
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small), str(costly)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    grown, took = map(float, ran.stdout.split())
    assert grown < 160
    assert took < 2.0


def pixels(picture: bytes, *places: tuple[int, int]) -> list[tuple[int, ...]]:
    made = avatar(picture).convert("RGBA")
    return [made.getpixel(place) for place in places]  # type: ignore[misc]  # a pixel of RGBA is four numbers


def pixel(picture: bytes, place: tuple[int, int]) -> tuple[int, ...]:
    return pixels(picture, place)[0]


def close(seen: tuple[int, ...], wanted: tuple[int, ...], by: int = 6) -> bool:
    return all(abs(one - other) <= by for one, other in zip(seen, wanted, strict=True))


def test_grey_of_sixteen_bits_is_scaled() -> None:
    rows = [struct.pack(">H", value) * 16 for value in (0, 0x4000, 0x8000, 0xFFFF) for _ in range(4)]
    seen = pixels(png(16, 16, depth=16, colours=0, rows=rows), (8, 2), (8, 6), (8, 10), (8, 14))
    assert [
        close(one, (grey, grey, grey, 255)) for one, grey in zip(seen, (0, 64, 128, 255), strict=True)
    ] == [True] * 4


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_grey_that_a_png_calls_transparent_is(depth: int) -> None:
    rows = [bytes([value]) * (2 * depth) for value in (0, 255) for _ in range(8)]
    picture = png(16, 16, chunk(b"tRNS", b"\0\0"), depth=depth, colours=0, rows=rows)
    clear, white = pixels(picture, (8, 2), (8, 14))
    assert clear[3] == 0
    assert close(white, (255, 255, 255, 255))


@pytest.mark.parametrize("depth", [8, 16])
def test_the_colour_that_a_png_calls_transparent_is(depth: int) -> None:
    """Of 16 bits it says all, the lower half included."""
    clear, shown = (0x40, 0x80, 0xC0), (0x40, 0x80, 0x00)
    wide = {value: bytes([value]) if depth == 8 else bytes([value, 7]) for value in (*clear, *shown)}
    rows = [b"".join(map(wide.__getitem__, colour)) * 16 for colour in (clear, shown) for _ in range(8)]
    says = b"".join(map(wide.__getitem__, clear)) if depth == 16 else struct.pack(">HHH", *clear)
    gone, kept = pixels(png(16, 16, chunk(b"tRNS", says), depth=depth, rows=rows), (8, 2), (8, 14))
    assert gone[3] == 0
    assert close(kept, (*shown, 255), by=12)


def test_a_palette_keeps_its_transparency() -> None:
    palette = chunk(b"PLTE", b"\xff\0\0" + b"\0\0\xff") + chunk(b"tRNS", b"\x80")
    rows = [bytes([value]) * 16 for value in (0, 1) for _ in range(8)]
    half, whole = pixels(png(16, 16, palette, colours=3, rows=rows), (8, 2), (8, 14))
    assert close(half, (255, 0, 0, 128), by=12)
    assert close(whole, (0, 0, 255, 255), by=12)


def test_a_gif_keeps_its_transparency() -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (0, 8, 16, 16))
    clear, blue = pixels(saved(image, "GIF", transparency=0, disposal=2), (8, 2), (8, 14))
    assert clear[3] == 0
    assert close(blue, (0, 0, 255, 255), by=12)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_colour_profile_is_applied(kind: str) -> None:
    exact: dict[str, dict[str, object]] = {
        "JPEG": {"quality": 95, "subsampling": 0},
        "WEBP": {"lossless": True},
    }
    red = Image.new("RGB", (64, 64), (255, 0, 0))
    seen = pixel(saved(red, kind, icc_profile=swapped_profile(), **exact.get(kind, {})), (5, 5))
    assert close(seen, (0, 255, 0, 255))


def test_a_profile_in_many_segments_is_applied() -> None:
    long = swapped_profile() + bytes(200_000)
    assert close(
        pixel(saved(Image.new("RGB", (64, 64), "red"), "JPEG", icc_profile=long), (5, 5)), (0, 255, 0, 255)
    )


def test_a_profile_is_applied_to_every_kind_of_pixel() -> None:
    red = Image.new("P", (64, 64), 0)
    red.putpalette([255, 0, 0])
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 90))
    for image, wanted in ((red, (0, 255, 0, 255)), (clear, (0, 255, 0, 90))):
        assert close(pixel(saved(image, "PNG", icc_profile=swapped_profile()), (5, 5)), wanted)
    grey = grey_profile()
    for image, wanted in (
        (Image.new("L", (64, 64), 128), (188, 188, 188, 255)),
        (Image.new("LA", (64, 64), (128, 90)), (188, 188, 188, 90)),
    ):
        assert close(pixel(saved(image, "PNG", icc_profile=grey), (5, 5)), wanted)
    cyan = saved(
        Image.new("CMYK", (64, 64), (255, 0, 0, 0)), "JPEG", icc_profile=cmyk_profile(lambda ink: 1 - ink)
    )
    assert close(pixel(cyan, (5, 5)), (0, 0, 0, 255))


def test_four_colours_without_a_profile_are_taken_for_ink() -> None:
    for ink, wanted in (((255, 0, 0, 0), (0, 255, 255, 255)), ((0, 0, 0, 255), (0, 0, 0, 255))):
        assert close(pixel(saved(Image.new("CMYK", (64, 64), ink), "JPEG"), (5, 5)), wanted)


@pytest.mark.parametrize(
    "harm", ["cut", "of another kind", "of zeros", "full of tags", "of endless elements"]
)
def test_a_picture_with_a_bad_profile_is_shown_without_it(harm: str) -> None:
    good = swapped_profile()
    bad = {
        "cut": good[:200],
        "of another kind": grey_profile(),
        "of zeros": good[:132] + bytes(len(good) - 132),
        "full of tags": good[:128] + b"\xff\xff\xff\xff" + good[132:],
        "of endless elements": good.replace(b"rTRC", b"D2B0"),
    }[harm]
    assert close(
        pixel(saved(Image.new("RGB", (64, 64), "red"), "PNG", icc_profile=bad), (5, 5)), (255, 0, 0, 255)
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_way_a_camera_was_held_is_turned_upright(orientation: int, order: str) -> None:
    image = drawn(size=(96, 64))
    image.paste("blue", (0, 0, 48, 32))
    lying = saved(image, "PNG", exif=b"Exif\0\0" + exif(orientation, order=order))
    standing = ImageOps.exif_transpose(Image.open(io.BytesIO(lying))).convert("RGB")
    made = avatar(lying).convert("RGB")
    assert made.size == standing.size
    for place in ((4, 4), (made.width - 4, 4), (4, made.height - 4), (made.width - 4, made.height - 4)):
        assert close(made.getpixel(place), standing.getpixel(place), by=12)  # type: ignore[arg-type]  # of RGB


def with_list_of_pictures(jpeg: bytes) -> bytes:
    """The same JPEG with the list of two pictures (CIPA DC-007) that many telephones write: Pillow's MPO."""
    entries = [(0xB000, 7, 4, b"0100"), (0xB001, 4, 1, struct.pack("<L", 2)), (0xB002, 7, 32, b"2\0\0\0")]
    tags = b"".join(struct.pack("<HHL", *tag, count) + value for *tag, count, value in entries)
    body = b"MPF\0II*\0\x08\0\0\0" + struct.pack("<H", 3) + tags + bytes(4)
    body += struct.pack("<LLLHH", 0x030000, len(jpeg), 0, 0, 0) + struct.pack("<LLLHH", 0, len(jpeg), 0, 0, 0)
    return jpeg[:2] + b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def test_a_list_of_pictures_hides_no_scans() -> None:
    with pytest.raises(TooManyPixels):
        reencode(io.BytesIO(with_list_of_pictures(BOMBS["jpeg of many scans"])))


def test_a_few_notes_are_no_hindrance() -> None:
    notes = segment(0xE1, b"Exif\0\0 ten bytes") * 300
    assert avatar(jpeg(64, 64, before=notes)).size == (64, 64)


def test_a_jpeg_that_lists_further_pictures_is_one_like_any_other() -> None:
    photo = with_list_of_pictures(saved(drawn(size=(8000, 6000)), "JPEG"))
    assert Image.open(io.BytesIO(photo)).format == "MPO"
    assert avatar(photo).size == (SIDE, 384)


def test_a_jpeg_whose_only_scan_lacks_a_component_counts_at_full_size() -> None:
    picture = bytearray(with_jpeg_size(saved(drawn(), "JPEG"), 9000, 9000))
    reencode(io.BytesIO(picture + b""))  # 81 million pixels in one complete scan: decoded small
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
