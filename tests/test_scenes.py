"""Scenes of garments: the same for a seed everywhere, exact targets, garments of one split."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablations.data.dense import scenes
from ablations.data.dense.scenes import GARMENTS, HIDDEN, SIDE, SIZES, compose
from ablations.data.fashion_mnist import read_fashion_mnist

EMBEDDED = read_fashion_mnist("embedded")
GARMENT_IMAGES, LABELS = EMBEDDED.train[:, 0], EMBEDDED.train_labels


def test_scenes_of_a_seed_are_the_same_in_all_versions_of_numpy() -> None:
    """If this fails on purpose, VERSION must be raised: it is part of the scenes' identity."""
    images = scenes.scenes_with_objects(20, 10)
    digest = hashlib.sha256()
    for split in (images.train, images.val):
        for scene in split.scenes:
            digest.update(scene.pixels.tobytes() + scene.numbers.tobytes() + bytes(scene.labels))
    assert (scenes.VERSION, digest.hexdigest()[:16]) == (1, "cb721abbf8a40899")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**63 - 1), st.integers(0, 2**40))
def test_a_scene_has_two_to_five_garments_of_the_stated_sizes(seed: int, number: int) -> None:
    scene = compose(GARMENT_IMAGES, LABELS, seed, number)
    count = len(scene.labels)
    assert GARMENTS[0] <= count <= GARMENTS[1]
    assert scene.pixels.shape == (SIDE, SIDE, 3)
    assert sorted(np.unique(scene.numbers)) == list(range(count + 1))
    for k in range(1, count + 1):
        rows, columns = np.nonzero(scene.numbers == k)
        longer = max(np.ptp(rows), np.ptp(columns)) + 1
        assert SIZES[0] * (1 - HIDDEN) - 2 <= longer <= SIZES[1]


def test_at_most_the_stated_part_of_a_garment_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    areas: list[list[int]] = []
    check = scenes._is_hidden

    def record(*arguments):
        areas.append(arguments[3])  # the pixels of each garment when it was painted
        return check(*arguments)

    monkeypatch.setattr(scenes, "_is_hidden", record)
    hidden = []
    for number in range(60):
        scene = compose(GARMENT_IMAGES, LABELS, 3, number)
        full = areas[-1]
        visible = np.bincount(scene.numbers.ravel())[1:]
        assert len(full) == len(visible)
        hidden += (1 - visible / full).tolist()
    assert 0.2 < max(hidden) <= HIDDEN
    assert min(hidden) == 0


def test_scenes_with_nothing_painted_show_only_smooth_noise() -> None:
    scene = compose(GARMENT_IMAGES, LABELS, 0, 0)
    background = scene.numbers == 0
    pairs = background[:, 1:] & background[:, :-1]
    steps = np.abs(np.diff(scene.pixels.astype(int), axis=1))[pairs]
    assert steps.max() < 12
    assert scene.pixels[background].std() > 5


def test_targets_are_those_of_the_painted_pixels() -> None:
    objects, labels = scenes.scenes_with_objects(4, 4), scenes.scenes_with_labels(4, 4)
    for split, maps in ((objects.train, labels.train), (objects.val, labels.val)):
        for i in range(4):
            scene, target, classes = split.scenes[i], split.target(i), maps.target(i)
            assert (split.pixels(i) == maps.pixels(i)).all()
            assert (target.masks.sum(0) == (scene.numbers > 0)).all()  # masks do not overlap
            assert (classes == 0).sum() == (scene.numbers == 0).sum()
            for box, label, mask in zip(target.boxes, target.labels, target.masks, strict=True):
                rows, columns = np.nonzero(mask)
                edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert box.tolist() == edges
                assert (classes[mask == 1] == label + 1).all()
    assert objects.num_classes == 10
    assert labels.classes[0] == "background"
    assert labels.num_classes == 11
    assert objects.digest == labels.digest


def test_splits_use_their_own_garments_and_differ_in_everything() -> None:
    images = scenes.scenes_with_objects(3, 3)
    assert (images.train.garments == EMBEDDED.train[:, 0]).all()
    assert (images.val.garments == EMBEDDED.val[:, 0]).all()
    for train in images.train.scenes:
        for val in images.val.scenes:
            assert (train.pixels == val.pixels).mean() < 0.05


def test_the_identity_has_seed_and_number_of_scenes() -> None:
    first = scenes.scenes_with_objects(3, 2).identity()
    assert first == scenes.scenes_with_objects(3, 2).identity()
    assert first["train_images"] == 3
    assert first["val_images"] == 2
    assert first != scenes.scenes_with_objects(3, 2, seed=1).identity()
    assert first != scenes.scenes_with_objects(4, 2).identity()


def test_mean_and_standard_deviation_are_about_those_of_the_scenes() -> None:
    images = scenes.scenes_with_objects(40)
    pixels = np.stack([scene.pixels for scene in images.train.scenes]) / 255
    assert pixels.mean((0, 1, 2)) == pytest.approx(images.mean, abs=0.02)
    assert pixels.std((0, 1, 2)) == pytest.approx(images.std, abs=0.02)
