"""Augmentation: boxes, masks and label maps follow the image; sizes are the authors'."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablations.data.dense import scenes
from ablations.data.dense.splits import Objects, boxes_of
from ablations.data.dense.transforms import (
    DETR_SIZES,
    DetectionAugmentation,
    Resize,
    SegmentationAugmentation,
    Size,
    crop_objects,
    distort_colours,
    flip_objects,
    resize_nearest,
    resize_objects,
    resize_pixels,
)

SCENES = scenes.scenes_with_objects(30, 1).train
LABELS = scenes.scenes_with_labels(30, 1).train


def random_objects(height: int, width: int, seed: int) -> tuple[np.ndarray, Objects]:
    """An image with random rectangles and a crowd; some touch the border."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((rng.integers(0, 5), height, width), np.uint8)
    for mask in masks:
        (y0, y1), (x0, x1) = (np.sort(rng.choice(n + 1, 2, replace=False)) for n in (height, width))
        mask[y0:y1, x0:x1] = rng.random((y1 - y0, x1 - x0)) < 0.7
    masks = masks[masks.any((1, 2))]
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    crowd = np.array([[0, 0, width, height / 2]], np.float32)
    return pixels, Objects(boxes_of(masks), rng.integers(0, 9, len(masks)), masks, crowd)


def check(pixels: np.ndarray, objects: Objects, slack: float = 0.0) -> None:
    """No box is empty or outside the image; each encloses the centres of its mask's pixels.

    A pixel whose centre is inside may be outside by half its side, which a second resizing scales:
    ``slack``.
    """
    height, width = pixels.shape[:2]
    count = len(objects.boxes)
    assert pixels.shape[2] == 3
    assert objects.labels.shape == (count,)
    assert objects.masks.shape == (count, height, width)
    assert objects.boxes.dtype == objects.ignored.dtype == np.float32
    for boxes in (objects.boxes, objects.ignored):
        assert (boxes >= 0).all()
        assert (boxes <= [width, height, width, height]).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
    inside, around = objects.boxes + 0.001 + slack, objects.boxes - 0.001 - slack
    for low, high, mask in zip(around, inside, objects.masks, strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows):
            assert low[0] <= columns.min() + 0.5
            assert low[1] <= rows.min() + 0.5
            assert high[2] >= columns.max() + 0.5
            assert high[3] >= rows.max() + 0.5


SIDES = st.integers(8, 90)
SEEDS = st.integers(0, 2**32)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, SEEDS, st.integers(5, 120), st.integers(40, 160) | st.none())
def test_boxes_enclose_masks_after_resizing(height, width, seed, shorter, longer) -> None:
    pixels, objects = random_objects(height, width, seed)
    resized, found = resize_objects(pixels, objects, Size(shorter, longer))
    assert resized.shape[:2] == Size(shorter, longer).of(height, width)
    check(resized, found)
    assert len(found.boxes) == len(objects.boxes)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, SEEDS)
def test_a_flip_is_exact_and_its_own_inverse(height, width, seed) -> None:
    pixels, objects = random_objects(height, width, seed)
    flipped, found = flip_objects(pixels, objects)
    check(flipped, found)
    assert (boxes_of(found.masks) == found.boxes).all()
    back, again = flip_objects(flipped, found)
    assert (back == pixels).all()
    assert (again.masks == objects.masks).all()
    assert (again.boxes == objects.boxes).all()
    assert (again.ignored == objects.ignored).all()


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, SEEDS, st.data())
def test_crops_keep_the_objects_of_which_a_pixel_is_left(height, width, seed, data) -> None:
    pixels, objects = random_objects(height, width, seed)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    h, w = data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    cropped, found = crop_objects(pixels, objects, top, left, h, w)
    check(cropped, found)
    assert (cropped == pixels[top : top + h, left : left + w]).all()
    visible = objects.masks[:, top : top + h, left : left + w].any((1, 2))
    assert found.labels.tolist() == objects.labels[visible].tolist()
    assert (found.masks == objects.masks[visible][:, top : top + h, left : left + w]).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(30, 90), st.integers(30, 90), SEEDS)
def test_the_whole_detection_augmentation(height, width, seed) -> None:
    augmentation = DetectionAugmentation(
        sizes=(40, 60), longest=100, crop_sizes=(50, 70), crop_range=(20, 60)
    )
    pixels, objects = random_objects(height, width, seed)
    before = pixels.copy(), objects.masks.copy(), objects.boxes.copy()
    changed, found = augmentation(pixels, objects, random.Random(seed))
    check(changed, found, slack=0.5 * 60 / 20)
    assert min(changed.shape[:2]) in (40, 60) or max(changed.shape[:2]) == 100
    assert max(changed.shape[:2]) <= 100
    for old, new in zip(before, (pixels, objects.masks, objects.boxes), strict=True):
        assert (old == new).all()


def test_each_choice_of_the_detection_augmentation_occurs() -> None:
    augmentation = DetectionAugmentation()
    pixels, objects = SCENES.pixels(0), SCENES.target(0)
    shapes, flips = set(), 0
    for seed in range(60):
        changed, found = augmentation(pixels, objects, random.Random(seed))
        check(changed, found, slack=0.5 * 800 / 384)
        shapes.add(min(changed.shape[:2]))
        if len(found.boxes) == len(objects.boxes):
            middle = (found.boxes[0, 0] + found.boxes[0, 2]) / 2 / changed.shape[1]
            flips += middle < 0.5
    assert shapes == set(DETR_SIZES)
    assert 10 < flips < 50


def test_flips_are_as_frequent_as_stated() -> None:
    pixels, objects = SCENES.pixels(0), SCENES.target(0)
    for probability in (0.0, 0.5, 1.0):
        augmentation = DetectionAugmentation(sizes=None, flip=probability)
        done = [
            (augmentation(pixels, objects, random.Random(seed))[0] != pixels).any()
            for seed in range(200)
        ]
        assert np.mean(done) == pytest.approx(probability, abs=0.1)


@pytest.mark.parametrize(
    ("height", "width", "size", "expected"),
    [
        # Of COCO's test: shorter side 800, longer at most 1333; of ADE20K's: 512 and 2048.
        (480, 640, Size(800, 1333), (800, 1067)),
        (640, 480, Size(800, 1333), (1067, 800)),
        (427, 640, Size(800, 1333), (800, 1199)),
        (333, 640, Size(800, 1333), (694, 1333)),
        (512, 683, Size(512, 2048), (512, 683)),
        (300, 1500, Size(512, 2048), (410, 2048)),
        (100, 300, Size(50), (50, 150)),
    ],
)
def test_sizes(height, width, size, expected) -> None:
    assert size.of(height, width) == expected


def test_the_test_resizes_only_the_image() -> None:
    pixels = np.zeros((480, 640, 3), np.uint8)
    assert Resize()(pixels, None, random.Random(0))[0].shape == (800, 1067, 3)
    assert Resize(None)(pixels, "target", random.Random(0)) == (pixels, "target")


def test_resizing_is_bilinear_without_antialiasing() -> None:
    ramp = np.repeat(np.arange(0, 160, 10, dtype=np.uint8)[None, :, None], 4, 0).repeat(3, 2)
    doubled = resize_pixels(ramp, 8, 32)[0, :, 0].astype(int)
    assert doubled[1:-1].tolist() == pytest.approx(
        [10 * (x + 0.5) / 2 - 5 for x in range(1, 31)], abs=1
    )
    halved = resize_pixels(ramp, 2, 8)[0, :, 0].astype(int)
    assert halved.tolist() == [5, 25, 45, 65, 85, 105, 125, 145]
    dots = np.zeros((4, 16, 3), np.uint8)
    dots[:, 1::4] = 255
    assert resize_pixels(dots, 4, 4).max() in (127, 128)  # the mean of two pixels, not of four


def test_nearest_takes_the_pixel_at_the_centre() -> None:
    x = np.arange(9, dtype=np.uint8)[None, None]
    assert resize_nearest(x, 1, 3)[0, 0].tolist() == [1, 4, 7]
    assert resize_nearest(x[:, :, :3], 2, 6)[0].tolist() == [[0, 0, 1, 1, 2, 2]] * 2


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 29), SEEDS, st.sampled_from([32, 96, 200]))
def test_segmentation_augmentation(number, seed, crop) -> None:
    augmentation = SegmentationAugmentation(Size(128, 512), crop=crop)
    pixels, labels = LABELS.pixels(number), LABELS.target(number)
    changed, found = augmentation(pixels, labels, random.Random(seed))
    assert found.shape == (crop, crop)
    height, width = changed.shape[:2]
    assert max(height, width) <= crop
    assert (found[:height, :width] != 255).all()
    assert (found[height:] == 255).all()
    assert (found[:, width:] == 255).all()
    assert set(np.unique(found)) <= {*np.unique(labels).tolist(), 255}


def test_labels_follow_the_image() -> None:
    """The image is its own label map: both are cropped, resized and flipped alike."""
    labels = np.repeat(np.repeat(np.arange(16, dtype=np.uint8).reshape(4, 4), 32, 0), 32, 1)
    pixels = np.repeat(labels[..., None] * 10, 3, 2)
    augmentation = SegmentationAugmentation(Size(128, 512), crop=80, distort=False)
    different = 0.0
    for seed in range(20):
        changed, found = augmentation(pixels, labels, random.Random(seed))
        height, width = changed.shape[:2]
        same = np.abs(changed[..., 0].astype(int) - 10 * found[:height, :width]) <= 5
        different = max(different, 1 - same.mean())
    assert different < 0.12  # only at edges, where pixels are interpolated


def test_no_class_fills_more_than_three_quarters_of_a_crop_if_that_can_be() -> None:
    labels = np.zeros((200, 200), np.uint8)
    labels[:, 130:] = 1
    pixels = np.zeros((200, 200, 3), np.uint8)
    strict = SegmentationAugmentation(Size(200), (1, 1), crop=64, distort=False)
    loose = SegmentationAugmentation(Size(200), (1, 1), crop=64, distort=False, most=1.0)
    most = [
        [
            np.bincount(transform(pixels, labels, random.Random(seed))[1].ravel()).max() / 64**2
            for seed in range(60)
        ]
        for transform in (strict, loose)
    ]
    assert np.mean(np.array(most[0]) > 0.75) < 0.2  # after ten tries, any crop is used
    assert np.mean(np.array(most[1]) > 0.75) > np.mean(np.array(most[0]) > 0.75)


def test_distortion_of_colours_stays_within_its_limits() -> None:
    grey = np.full((4, 4, 3), 100, np.uint8)
    values = [distort_colours(grey, random.Random(seed)) for seed in range(300)]
    assert all(np.ptp(v.astype(int)) == 0 for v in values)  # grey has no saturation and no hue
    levels = [int(v[0, 0, 0]) for v in values]
    assert min(levels) >= int((100 - 32) * 0.5) - 1
    assert max(levels) <= (100 + 32) * 1.5
    assert len(set(levels)) > 50
    assert 20 < sum(level == 100 for level in levels) < 130  # a quarter: neither changes
    colour = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    turned = [distort_colours(colour, random.Random(seed))[0, 0] for seed in range(300)]
    assert len({tuple(v.tolist()) for v in turned}) > 150
    assert sum(int(v.argmax()) == 0 for v in turned) > 280  # the hue moves by 36 degrees at most


def test_augmentations_depend_on_their_seed_alone() -> None:
    for transform, split in (
        (DetectionAugmentation(), SCENES),
        (SegmentationAugmentation(Size(128, 512), crop=96), LABELS),
    ):
        first, second, other = (
            transform(split.pixels(1), split.target(1), random.Random(seed))[0].tolist()
            for seed in (1, 1, 2)
        )
        assert first == second != other
