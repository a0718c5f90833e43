"""Image files of every mode, and files that only look like images."""

import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from ablations.data.decoding import BACKGROUND, MAX_RATIO, decode_image, explain, to_rgb
from ablations.data.image_folder import SUFFIXES

W = BACKGROUND[0]


def mixed(value: int, alpha: int) -> int:
    return round((value * alpha + W * (255 - alpha)) / 255)


# One pixel of each mode that Pillow has, and what it must become. None: named as unreadable.
MODES: dict[str, tuple[Any, tuple[int, int, int] | None]] = {
    "1": (255, (255, 255, 255)),
    "L": (77, (77, 77, 77)),
    "P": (7, (10, 20, 30)),
    "RGB": ((1, 2, 3), (1, 2, 3)),
    "RGBX": ((1, 2, 3, 9), (1, 2, 3)),
    "RGBA": ((40, 50, 60, 100), tuple(mixed(c, 100) for c in (40, 50, 60))),
    "RGBa": ((40, 50, 60, 100), tuple(mixed(c * 255 // 100, 100) for c in (40, 50, 60))),
    "LA": ((90, 51), (mixed(90, 51),) * 3),
    "La": ((50, 128), (mixed(99, 128),) * 3),
    "PA": ((7, 0), BACKGROUND),
    "CMYK": ((255, 0, 0, 0), (0, 255, 255)),
    "YCbCr": ((128, 128, 128), (128, 128, 128)),
    "HSV": ((0, 255, 255), (255, 0, 0)),
    "LAB": ((0, 128, 128), (0, 0, 0)),
    "I;16": (0x80FF, (0x80, 0x80, 0x80)),
    "I;16L": (0x80FF, (0x80, 0x80, 0x80)),
    "I;16B": (0x0203, (2, 2, 2)),
    "I;16N": (0xFFFF, (255, 255, 255)),
    "I": (70_000, None),
    "F": (0.5, None),
}  # type: ignore[assignment]


def test_the_table_has_every_mode() -> None:
    assert set(MODES) == set(Image.MODES)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_comes_out_right_or_is_named(mode: str) -> None:
    value, expected = MODES[mode]
    image = Image.new(mode, (2, 2), value)
    if mode in ("P", "PA"):
        image.putpalette([0] * 21 + [10, 20, 30])
    if mode == "LAB" and not ImageCms:
        pytest.skip("Pillow without littlecms")
    if expected is None:
        with pytest.raises(ValueError, match=f"mode is {mode},"):
            to_rgb(image)
        return
    pixel = to_rgb(image).getpixel((1, 1))
    assert to_rgb(image).mode == "RGB"
    assert np.abs(np.subtract(pixel, expected)).max() <= 1


def write(path: Path, image: Image.Image, **options: Any) -> Image.Image:
    """Writes an image and returns it as it is read."""
    image.save(path, **options)
    return decode_image(str(path))


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_rgb_and_grey_are_what_pillow_reads(suffix: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    for number, image in enumerate((Image.fromarray(pixels), Image.fromarray(pixels[..., 0]))):
        path = tmp_path / f"{number}.{suffix}"
        ours = write(path, image)
        with Image.open(path) as theirs:
            assert np.array_equal(np.asarray(ours), np.asarray(theirs.convert("RGB")))


def test_16_bits_of_a_file_keep_their_upper_8(tmp_path: Path) -> None:
    ramp = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    image = Image.fromarray(ramp)
    ours = np.asarray(write(tmp_path / "ramp.png", image))
    assert np.array_equal(ours, np.repeat((ramp >> 8).astype(np.uint8)[..., None], 3, axis=2))
    shown = np.asarray(write(tmp_path / "part.png", image, transparency=int(ramp[3, 4])))
    assert np.argwhere((shown != ours).any(2)).tolist() == [[3, 4]]
    assert shown[3, 4].tolist() == list(BACKGROUND)


TRANSPARENT: dict[str, tuple[int, Any, Any]] = {  # mode: values of two pixels, transparency
    "1": (0, 1, 0),
    "L": (7, 9, 7),
    "RGB": ((1, 2, 3), (1, 2, 4), (1, 2, 3)),
    "P-by-index": (1, 2, 1),
    "P-by-bytes": (1, 2, b"\xff\x00\xff"),
}  # type: ignore[dict-item]


@pytest.mark.parametrize("name", TRANSPARENT)
def test_a_transparent_colour_shows_the_background(name: str, tmp_path: Path) -> None:
    clear, solid, transparency = TRANSPARENT[name]
    image = Image.new(name.partition("-")[0], (2, 1), solid)
    image.putpixel((0, 0), clear)
    if image.mode == "P":
        image.putpalette([0, 0, 0, 10, 20, 30, 40, 50, 60])
    ours = write(tmp_path / "a.png", image, transparency=transparency)
    assert ours.getpixel((0, 0)) == BACKGROUND
    assert ours.getpixel((1, 0)) == image.convert("RGB").getpixel((1, 0))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_jpegs_in_other_colours(mode: str, tmp_path: Path) -> None:
    """Pillow writes CMYK as Adobe does, inverted."""
    image = Image.new("RGB", (16, 16), (200, 90, 30)).convert(mode)
    pixel = write(tmp_path / "a.jpg", image, quality=100).getpixel((8, 8))
    assert np.abs(np.subtract(pixel, (200, 90, 30))).max() <= 3


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_of_an_animation_the_first_frame_is_read(suffix: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    options = {"save_all": True, "append_images": frames[1:], "lossless": True}
    assert write(tmp_path / f"a.{suffix}", frames[0], **options).getpixel((0, 0)) == (255, 0, 0)


def test_the_orientation_in_exif_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    assert write(tmp_path / "a.jpg", Image.new("RGB", (8, 4)), exif=exif).size == (8, 4)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.8])
def test_a_file_cut_short_is_an_error(suffix: str, part: float, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises((OSError, ValueError, SyntaxError)):
        decode_image(str(path))


FOREIGN = ("EPS", "GIF", "TIFF", "PDF", "ICO", "PPM", "TGA", "JPEG2000", "PCX", "SGI")


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_other_formats_are_refused_unopened(foreign: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (8, 8)).save(path, foreign)
    with pytest.raises(OSError) as error:  # noqa: PT011  # its text is asserted
        decode_image(str(path))
    assert "JPEG, PNG, WEBP, BMP" in explain(error.value)


def test_no_other_program_is_started_for_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program started"))
    with pytest.raises(OSError, match="cannot identify"):
        decode_image(str(tmp_path / "a.jpg"))


def test_only_regular_files_are_read_and_nothing_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    for path in tmp_path.iterdir():
        with pytest.raises(OSError, match=r"Not a regular file|Is a directory"):
            decode_image(str(path))


def png(width: int, height: int) -> bytes:
    """A grey PNG of these sizes with hardly any pixels."""
    body = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
            (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b"")]  # fmt: skip
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in body
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("width", "height"), [(20_000, 20_000), (2**31 - 1, 1), (1, MAX_RATIO + 1), (200_000, 150)]
)
def test_absurd_sizes_are_refused_before_memory_is_taken(
    width: int, height: int, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(png(width, height))
    with pytest.raises((ValueError, OSError, Image.DecompressionBombError)) as error:
        decode_image(str(tmp_path / "a.png"))
    assert str(width) in str(error.value) or str(width * height) in str(error.value)


@pytest.mark.integration
def test_a_large_image_is_read_without_a_warning(tmp_path: Path) -> None:
    program = (
        "import sys; from PIL import Image; Image.MAX_IMAGE_PIXELS = 5_000\n"
        "from ablations.data.decoding import decode_image\n"
        "print(decode_image(sys.argv[1]).size)"
    )
    Image.new("L", (90, 90)).save(tmp_path / "a.png")
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path / "a.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("(90, 90)", "")


def test_odd_metadata_warns_nobody(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write(tmp_path / "a.png", image, transparency=b"\x00\x80")
