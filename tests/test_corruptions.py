"""Corruptions, compared with two other libraries, with scipy and with known distributions."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import fft, ndimage

from ablations.data.corruptions import blur, digital, weather
from ablations.data.corruptions.arrays import motion_blurred
from ablations.data.corruptions.clouds import plasma
from ablations.data.corruptions.corrupt import FUNCTIONS, corrupt
from ablations.data.corruptions.ice import KINDS, texture
from ablations.data.corruptions.names import (
    CORRUPTIONS,
    GROUPS,
    SEVERITIES,
    TABLES,
    parameters,
    table_for,
)
from modernize.errors import UnknownNameError, UsageError

# tests/benchmarks/reference_corruptions.py made it with imagecorruptions-imaug and corrupt-tta.
REFERENCE = dict(np.load(Path(__file__).parent / "golden" / "corruptions.npz"))
IMAGE = REFERENCE.pop("image")
FIXED = [name for name, made in REFERENCE.items() if made.dtype == np.uint8]
RANDOM = [name for name in REFERENCE if name not in FIXED]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise_images(*shape: int) -> np.ndarray:
    return generator().integers(0, 256, shape, np.uint8)


def test_names() -> None:
    assert [len(names) for names in GROUPS.values()] == [3, 4, 4, 4]
    assert list(FUNCTIONS) == list(CORRUPTIONS)
    assert len(set(CORRUPTIONS)) == 15
    for name in CORRUPTIONS:
        counts = {len(parameters(name, level, table)) for level in SEVERITIES for table in TABLES}
        assert len(counts) == 1
    assert parameters("gaussian_noise", 1, "imagenet") == (0.08,)
    assert parameters("gaussian_noise", 5, "cifar") == (0.10,)
    assert parameters("jpeg_compression", 5, "tiny-imagenet") == (25,)
    with pytest.raises(UnknownNameError, match="rain"):
        parameters("rain", 1, "imagenet")
    with pytest.raises(UnknownNameError, match="6"):
        parameters("fog", 6, "imagenet")
    with pytest.raises(UnknownNameError, match="mnist"):
        parameters("fog", 1, "mnist")


@pytest.mark.parametrize(
    ("height", "width", "table"),
    [
        (28, 28, "cifar"), (32, 32, "cifar"), (32, 300, "cifar"), (64, 64, "tiny-imagenet"),
        (96, 96, "tiny-imagenet"), (128, 200, "imagenet"), (384, 384, "imagenet"),
    ],
)  # fmt: skip
def test_table_for_a_size(height: int, width: int, table: str) -> None:
    assert table_for(height, width) == table


@pytest.mark.integration
def test_names_do_not_import_numpy() -> None:
    code = "import sys, ablations.data.corruptions.names; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(28, 28), (32, 32), (64, 64), (224, 224), (40, 56)])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption(name: str, size: tuple[int, int], channels: int) -> None:
    images = IMAGE[np.arange(size[0])[:, None] % 64, np.arange(size[1]) % 64][None, ..., :channels]
    for severity in (1, 5):
        given = images.copy()
        made = corrupt(given, name, severity, [3], table_for(*size))
        assert made.dtype == np.uint8
        assert made.shape == images.shape
        assert np.array_equal(given, images)
        assert 0.1 < np.abs(made - images.astype(float)).mean() < 150


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_does_not_depend_on_its_batch(name: str) -> None:
    images = noise_images(48, 50, 60, 3)  # more than one chunk
    images[7] = 0
    images[8] = 255
    seeds = list(range(100, 148))
    made = corrupt(images, name, 3, seeds, "cifar")
    assert np.array_equal(made, corrupt(images, name, 3, seeds, "cifar"))
    for at in (0, 7, 8, 30, 47):
        alone = corrupt(images[at : at + 1], name, 3, seeds[at : at + 1], "cifar")
        assert np.array_equal(alone[0], made[at])
    turned = corrupt(images[::-1], name, 3, seeds[::-1], "cifar")
    assert np.array_equal(turned, made[::-1])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_seeds(name: str) -> None:
    images = np.stack([IMAGE, IMAGE])
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()
    first, second = corrupt(images, name, 2, [1, 2**63], "cifar")
    assert np.random.get_state()[1].tolist() == before
    assert np.array_equal(first, second) == (name in FIXED)


def test_no_images() -> None:
    assert corrupt(noise_images(0, 32, 32, 3), "fog", 1, [], "cifar").shape == (0, 32, 32, 3)


def test_small_images_with_parameters_of_large_ones() -> None:
    for name in CORRUPTIONS:
        for severity in SEVERITIES:
            made = corrupt(noise_images(20, 28, 30, 1), name, severity, range(20), "imagenet")
            assert made.shape == (20, 28, 30, 1)


def test_wrong_images() -> None:
    good = noise_images(2, 32, 32, 3)
    for images, named in (
        (good.astype(np.float32), "float32"),
        (good[0], "(32, 32, 3)"),
        (good[..., :2], "(2, 32, 32, 2)"),
        (good[:, :10], "10 x 32"),
    ):
        with pytest.raises(UsageError, match=named.replace("(", r"\(").replace(")", r"\)")):
            corrupt(images, "fog", 1, [0] * len(images), "cifar")
    for seeds in ([1], [1, -2]):
        with pytest.raises(UsageError, match="seeds"):
            corrupt(good, "fog", 1, seeds, "cifar")


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", FIXED)
def test_same_as_another_library(name: str, severity: int) -> None:
    made = corrupt(IMAGE[None], name, severity, [0], "imagenet")[0].astype(float)
    difference = np.abs(made - REFERENCE[name][severity - 1])
    if name == "jpeg_compression":  # other versions of the JPEG library may round otherwise
        assert difference.mean() < 0.5
    elif name in ("contrast", "pixelate"):
        assert difference.max() == 0
    else:  # values are rounded down, so the last bits of a sum decide
        assert difference.max() <= 1
        assert difference.mean() < 0.15


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", RANDOM)
def test_same_statistics_as_another_library(name: str, severity: int) -> None:
    """Mean error, mean and contrast agree within 5 standard errors and 1 %."""
    count = 100
    images = np.stack([IMAGE] * count)
    if name == "elastic_transform":  # corrupt-tta has 224 where ImageNet-C has 244
        values = tuple(each * 224 / 244 for each in parameters(name, severity, "imagenet"))
        made = FUNCTIONS[name](images, [generator(seed) for seed in range(count)], values)
    else:
        made = corrupt(images, name, severity, range(count), "imagenet")
    errors = np.abs(made - images.astype(float)).mean((1, 2, 3))
    found = np.stack([errors, made.mean((1, 2, 3)), made.std((1, 2, 3))], 1)
    expected, spread = REFERENCE[name][severity - 1]
    standard_error = np.sqrt(spread**2 / 200 + found.var(0) / count)
    # That library adds a sixth, dark photograph of ice, which ImageNet-C never takes.
    fraction = 0.1 if name == "frost" else 0.01
    assert np.all(np.abs(found.mean(0) - expected) < 5 * standard_error + fraction * expected)


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name != "elastic_transform"])
def test_severities_grow(name: str) -> None:
    """Errors grow, as far as ImageNet-C's parameters let them.

    Not those of elastic_transform: its first severities move the whole image.
    """
    images = np.stack([IMAGE] * 60)
    errors = [
        np.abs(corrupt(images, name, level, range(60), "imagenet") - images.astype(float)).mean()
        for level in SEVERITIES
    ]
    assert errors[0] < errors[4]
    if name not in ("glass_blur", "snow", "frost", "fog", "pixelate"):
        assert errors == sorted(errors)


@pytest.mark.parametrize("name", [*FIXED, "fog", "snow", "motion_blur", "glass_blur"])
def test_grey_images_are_like_colour_images_with_equal_channels(name: str) -> None:
    grey = IMAGE[None, ..., 1:2]
    made = corrupt(grey, name, 4, [5], "cifar").astype(float)
    colour = corrupt(grey.repeat(3, 3), name, 4, [5], "cifar")
    assert np.abs(colour - made).max() <= (3 if name == "jpeg_compression" else 1)


def test_gaussian_noise_is_normal() -> None:
    grey = np.full((4, 200, 200, 3), 128, np.uint8)
    made = corrupt(grey, "gaussian_noise", 1, range(4), "imagenet") - 127.5  # rounded down
    assert abs(made.mean()) < 0.15
    assert abs(made.std() / (255 * 0.08) - 1) < 0.01
    assert abs((made**4).mean() / made.var() ** 2 - 3) < 0.05
    assert abs(np.mean(made[..., 0] * made[..., 1])) < 5


@pytest.mark.parametrize(("severity", "photons"), [*enumerate((60, 25, 12, 5, 3), 1)])
def test_shot_noise_is_a_count(severity: int, photons: int) -> None:
    level = 51  # a fifth of white, so that hardly any count is cut
    grey = np.full((4, 200, 200, 1), level, np.uint8)
    made = corrupt(grey, "shot_noise", severity, range(4), "imagenet").astype(float)
    counts = np.round(made * photons / 255)
    expected = photons * level / 255
    assert abs(counts.mean() / expected - 1) < 0.02
    assert abs(counts.var() / expected - 1) < (0.03 if photons > 5 else 0.08)
    assert abs((counts == 0).mean() - np.exp(-expected)) < 0.005


def test_impulse_noise_is_black_and_white() -> None:
    made = corrupt(np.full((4, 200, 200, 3), 128, np.uint8), "impulse_noise", 3, range(4), "cifar")
    assert set(np.unique(made)) == {0, 128, 255}
    for value in (0, 255):
        assert abs((made == value).mean() - 0.015) < 0.001


def test_glass_blur_copies_one_pixel_after_another() -> None:
    height, width, reach = 21, 26, 2
    found = blur._copied_from(height, width, reach, generator())
    # The same, as a loop over pixels: a pixel takes the value that another has at that time.
    down, right = generator().integers(-reach, reach, (2, height - 4, width - 4), np.int8)
    values = np.arange(height * width).reshape(height, width)
    for row in range(height - reach, reach, -1):
        for column in range(width - reach, reach, -1):
            at = row - reach - 1, column - reach - 1
            values[row, column] = values[row + down[at], column + right[at]]
    assert np.array_equal(found, values.ravel())


@pytest.mark.parametrize("degrees", [-120, -90, -30.5, 0, 45])
def test_motion_blur_is_a_mean_over_a_ray(degrees: float) -> None:
    image = noise_images(1, 24, 30, 3)
    radius, sigma = 7, 4
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    down = np.ceil(steps * np.sin(np.radians(degrees)) - 0.5).astype(int)
    right = np.ceil(steps * np.cos(np.radians(degrees)) - 0.5).astype(int)
    expected = np.zeros(image.shape[1:])
    for row in range(24):
        for column in range(30):
            rows, columns = (row + down).clip(0, 23), (column + right).clip(0, 29)
            expected[row, column] = weights @ image[0, rows, columns] / weights.sum()
    found = motion_blurred(image, radius, sigma, [degrees])[0]
    assert np.abs(found - expected).max() < 0.1


def test_elastic_transform_interpolates_like_scipy() -> None:
    planes = generator().random((3, 30, 41), np.float32) * 255
    y, x = generator().uniform(-70, 90, (2, 30, 41)).astype(np.float32)
    for repeats, mode in ((0, "mirror"), (1, "reflect")):
        found = digital._sampled(planes, y, x, repeats)
        expected = [ndimage.map_coordinates(plane, (y, x), order=1, mode=mode) for plane in planes]
        assert np.abs(found - expected).max() < 0.01


@pytest.mark.parametrize("sigma", [0.96, 2.44, 19.52, 170.8])
def test_elastic_transform_smooths_like_scipy(sigma: float) -> None:
    field = generator().random((50, 64))
    factors = digital._smoothing(50, sigma)[:, None] * digital._smoothing(64, sigma)
    expected = ndimage.gaussian_filter(field, sigma, mode="reflect", truncate=3)
    assert np.abs(fft.idctn(fft.dctn(field) * factors) - expected).max() < 1e-5


def test_elastic_transform_moves_three_points() -> None:
    height, width, offsets = 60, 90, generator().uniform(-5, 5, (3, 2))
    matrix = digital._affine(height, width, offsets)
    old = np.array([[65, 50], [65, 10], [25, 10]])  # (x, y)
    moved = np.column_stack([old + offsets, np.ones(3)])
    assert np.allclose(moved @ matrix.T, old)


def test_zoom_blur_is_a_mean_of_enlarged_images() -> None:
    image = np.kron(IMAGE, np.ones((4, 4, 1), np.uint8))[:224, :224]
    total = 2.0 * image
    for factor in np.arange(1, 1.26, 0.02)[1:]:
        size = int(np.ceil(224 / factor))
        start = (224 - size) // 2
        middle = image[start : start + size, start : start + size].astype(float)
        enlarged = ndimage.zoom(middle, (factor, factor, 1), order=1)
        cut = (len(enlarged) - 224) // 2
        total += enlarged[cut : cut + 224, cut : cut + 224]
    made = corrupt(image[None], "zoom_blur", 4, [0], "imagenet")[0]
    assert np.abs(made - np.floor(total / (len(np.arange(1, 1.26, 0.02)) + 1))).max() <= 1


def test_clouds() -> None:
    rough, smooth = (
        plasma([generator(seed) for seed in range(20)], 64, decay) for decay in (1.4, 3)
    )
    for clouds in (rough, smooth):
        assert np.allclose(clouds.min((1, 2)), 0)
        assert np.allclose(clouds.max((1, 2)), 1)
        steps = np.abs(np.diff(clouds, axis=2)).mean()
        assert np.abs(clouds[:, :, 0] - clouds[:, :, -1]).mean() < 1.5 * steps  # a torus
    # Halving the distance divides the offsets by the square of the decay.
    for clouds, decay in ((rough, 1.4), (smooth, 3)):
        ratio = middle_offsets(clouds[:, ::2, ::2]).std() / middle_offsets(clouds).std()
        assert abs(ratio / decay**2 - 1) < 0.05


def middle_offsets(clouds: np.ndarray) -> np.ndarray:
    """How far the middles of squares of 2 x 2 pixels are from the mean of their corners."""
    corners = clouds[:, ::2, ::2]
    for axis in (1, 2):
        corners = (corners + np.roll(corners, -1, axis)) / 2
    return clouds[:, 1::2, 1::2] - corners


def test_fog_keeps_the_brightest_value_below_white() -> None:
    image = np.minimum(IMAGE, 200)[None]
    made = corrupt(image, "fog", 5, [0], "imagenet")
    assert 180 < made.max() <= 200
    assert not corrupt(np.zeros_like(image), "fog", 5, [0], "imagenet").any()


def test_brightness_keeps_hue_and_saturation() -> None:
    image = np.array([[[[100, 50, 0], [0, 0, 0], [250, 125, 25], [10, 20, 200]]]], np.uint8)
    made = weather.brightness(image, [generator()], (0.2,))
    assert made.tolist() == [[[[151, 75, 0], [51, 51, 51], [255, 127, 25], [12, 25, 251]]]]


def test_ice() -> None:
    large, small = texture(1.0), texture(0.2)
    assert large.shape == (1024, 1024)
    assert small.shape == (205, 205)
    for ice in (large, small):
        assert abs(ice.mean()) < 1e-3
        assert abs(ice.std() - 1) < 1e-3
        inside = np.abs(np.diff(ice, axis=0)).mean()
        assert np.abs(ice[0] - ice[-1]).mean() < 1.5 * inside  # it continues beyond its borders
    grey = np.zeros((300, 64, 64, 1), np.uint8)
    made = corrupt(grey, "frost", 5, range(300), "imagenet").mean()
    mean = np.mean([np.dot(kind[:3], (0.299, 0.587, 0.114)) for kind in KINDS])
    assert abs(made / (0.75 * mean) - 1) < 0.1
