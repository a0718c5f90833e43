"""COCO's layout: targets and truth as pycocotools has them, and faults that are named."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coder
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ablations.data.dense import image_files
from ablations.data.dense.coco import CocoSplit, find_coco
from ablations.data.dense.loaders import _Reader
from ablations.data.dense.shapes import decode_shape, run_lengths
from ablations.data.dense.splits import limited
from ablations.data.images import DataError
from ablations.data.worker_dataset import BadImageError, read_or_skip
from ablations.evaluation.detection import DetectionMetric

SIDES = st.integers(1, 40)
SIZES = {7: (60, 80), 3: (50, 40), 12: (64, 64), 5: (90, 33), 9: (31, 100)}  # height, width by id


def square(x: float, y: float, side: float) -> list[float]:
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def annotation(number: int, image: int, category: int, **values: Any) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [10.5, 8.0, 20.0, 20.0],
        "area": 400.0,
        "iscrowd": 0,
        "segmentation": [square(10.5, 8, 20)],
    } | values


def circle(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.asfortranarray((y - 30) ** 2 + (x - 30) ** 2 < 225, np.uint8)


def compressed() -> dict[str, Any]:
    code = coder.encode(circle(64, 64))
    return {"size": [64, 64], "counts": code["counts"].decode()}


def uncompressed() -> dict[str, Any]:
    flat = circle(64, 64).flatten("F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges.tolist(), len(flat)]).tolist()
    return {"size": [64, 64], "counts": counts}


def annotations() -> dict[str, Any]:
    """Categories 2, 5 and 90; image 3 has no annotation, 5 only a crowd, 9 is too low."""
    return {
        "images": [
            {"id": i, "file_name": f"{i:05}.jpg", "height": h, "width": w}
            for i, (h, w) in SIZES.items()
        ],
        "categories": [{"id": 90, "name": "z"}, {"id": 2, "name": "b"}, {"id": 5, "name": "e"}],
        "annotations": [
            annotation(100, 12, 90, segmentation=compressed(), bbox=[16, 16, 29, 29]),
            annotation(101, 7, 2),
            annotation(102, 7, 5, bbox=[70, 50, 40, 40]),  # ends outside the image
            annotation(103, 12, 2, segmentation=uncompressed(), bbox=[16, 16, 29, 29]),
            annotation(104, 5, 2, iscrowd=1, segmentation={"size": [90, 33], "counts": [0, 2970]}),
            annotation(105, 7, 2, bbox=[5, 5, 0, 9], area=0),
            annotation(106, 7, 2, segmentation=[[1, 1, 9, 9], [4, 4]]),
            annotation(107, 12, 5, iscrowd=1, segmentation=compressed(), bbox=[1, 2, 30, 40]),
            annotation(108, 9, 5, segmentation=[[1, 1, 9, 9], square(10.5, 8, 20)]),
            annotation(109, 12, 2, bbox=[200, 200, 9, 9]),  # all of it outside
        ],
    }


def write(root: Path) -> Path:
    for split in ("train2017", "val2017"):
        (root / split).mkdir(parents=True)
        for i, (height, width) in SIZES.items():
            Image.new("RGB", (width, height), (i, 0, 0)).save(root / split / f"{i:05}.jpg")
    (root / "annotations").mkdir()
    for split in ("train", "val"):
        write_json(root, split, annotations())
    return root


def write_json(root: Path, split: str, content: Any) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (root / f"annotations/instances_{split}2017.json").write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "coco")


def refused(root: Path, content: Any) -> str:
    write_json(root, "train", content)
    with pytest.raises(DataError) as caught:
        find_coco(str(root))
    return str(caught.value)


def index_of(split: CocoSplit, image: int) -> int:
    return split.ids.tolist().index(image)


def test_classes_splits_and_notes(root: Path) -> None:
    images = find_coco(str(root))
    assert images.classes == ("b", "e", "z")  # in the order of their ids
    assert images.train.ids.tolist() == [7, 12]
    assert images.val.ids.tolist() == list(SIZES)
    notes = " ".join(images.notes)
    assert "3 training images of 5" in notes
    for named in ("105 of image 7", "106 of image 7", "109 of image 12"):
        assert named in notes
    assert images.identity()["train_images"] == 2


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_targets_are_masks_of_pycocotools(root: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(str(root / "annotations/instances_train2017.json"))
    split = find_coco(str(root)).train
    for image, expected in ((7, [101, 102]), (12, [100, 103])):
        target = split.target(index_of(split, image))
        assert target.labels.tolist() == {7: [0, 1], 12: [2, 0]}[image]
        for mask, number in zip(target.masks, expected, strict=True):
            assert (mask == reference.annToMask(reference.anns[number])).all()
            assert mask.any()
    first = split.target(index_of(split, 7))
    assert first.boxes.tolist() == [[10.5, 8, 30.5, 28], [70, 50, 80, 60]]  # within the image
    assert first.ignored.shape == (0, 4)
    crowded = split.target(index_of(split, 12))
    assert crowded.ignored.tolist() == [[1, 2, 31, 42]]


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_the_metric_gets_all_annotations(root: Path) -> None:
    truth = find_coco(str(root)).val.truth()
    assert [image["height"] for image in truth["images"]] == [h for h, _ in SIZES.values()]
    assert len(truth["annotations"]) == 10
    assert sum(one["iscrowd"] for one in truth["annotations"]) == 2
    images = list(SIZES)
    found = {(images[a["image_id"]], a["area"], *a["bbox"]) for a in truth["annotations"]}
    given = annotations()["annotations"]
    assert found == {(a["image_id"], a["area"], *a["bbox"]) for a in given}
    assert all(a["id"] > 0 for a in truth["annotations"])
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = truth
        reference.createIndex()
    for one in truth["annotations"]:
        reference.annToMask(one)  # polygons of two points would be taken for boxes


def test_pixels(root: Path) -> None:
    split = find_coco(str(root)).train
    pixels = split.pixels(0)
    assert pixels.shape == (60, 80, 3)
    assert abs(int(pixels[0, 0, 0]) - 7) < 4
    assert split.path(0).endswith("train2017/00007.jpg")


def test_other_names(root: Path) -> None:
    for old, new in (("train2017", "train2014"), ("val2017", "val2014")):
        (root / old).rename(root / new)
        file = root / f"annotations/instances_{old}.json"
        file.rename(root / f"annotations/instances_{new}.json")
    assert len(find_coco(str(root)).val) == 5


def test_a_limit_takes_evenly_spaced_images(root: Path) -> None:
    images = find_coco(str(root))
    few = limited(images, 3)
    assert few.train.ids.tolist() == [7, 12]
    assert few.val.ids.tolist() == [7, 12, 9]
    assert few.digest != images.digest
    assert (few.val.target(1).masks == images.val.target(2).masks).all()
    assert len(few.val.truth()["annotations"]) == 9
    assert limited(images, 5) is images


def test_the_digest_changes_with_annotations_and_images(root: Path) -> None:
    digests = {find_coco(str(root)).digest}
    content = annotations()
    content["annotations"][0]["area"] = 401
    write_json(root, "train", content)
    digests.add(find_coco(str(root)).digest)
    Image.new("RGB", (80, 60), (1, 2, 3)).save(root / "val2017/00007.jpg", quality=30)
    digests.add(find_coco(str(root)).digest)
    assert len(digests) == 3


@pytest.mark.parametrize("missing", ["annotations/instances_train2017.json", "train2017"])
def test_missing_files_and_folders_are_named(root: Path, missing: str) -> None:
    (root / missing).rename(root / "elsewhere")
    with pytest.raises(DataError, match="train2017"):
        find_coco(str(root))
    with pytest.raises(DataError, match="no-such-folder"):
        find_coco(str(root / "no-such-folder"))


def test_a_file_that_is_cut_off_is_named(root: Path) -> None:
    message = refused(root, json.dumps(annotations())[:-200])
    assert "instances_train2017.json" in message
    assert "cut off" in message
    assert "instances_train2017.json" in refused(root, {"images": [], "annotations": []})
    assert "instances_train2017.json" in refused(root, "[]")


def test_missing_images_are_named(root: Path) -> None:
    (root / "train2017/00012.jpg").unlink()
    (root / "train2017/00007.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 missing.*00007\.jpg.*00012\.jpg"):
        find_coco(str(root))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"image_id": 8}, ["image 8"]),
        ({"category_id": 3}, ["category 3"]),
        ({"bbox": [1, 2, 3]}, ["bbox", "image 7"]),
        ({"bbox": [1, 2, 3, float("nan")]}, ["bbox", "nan"]),
        ({"bbox": "abcd"}, ["101"]),
        ({"area": float("inf")}, ["area", "inf"]),
        ({"iscrowd": 2}, ["iscrowd", "2"]),
        ({"segmentation": [[1, 2, 3]]}, ["polygon"]),
        ({"segmentation": [[1, 2, 3, 4, 5, float("nan")]]}, ["polygon"]),
        ({"segmentation": "abc"}, ["segmentation"]),
        ({"segmentation": {"size": [9, 9], "counts": [81]}}, ["[9, 9]", "[60, 80]"]),
        ({"segmentation": {"size": [60, 80], "counts": [81]}}, ["run lengths"]),
        ({"segmentation": {"size": [60, 80], "counts": [-1, 4801]}}, ["run lengths"]),
        ({"segmentation": {"size": [60, 80], "counts": ""}}, ["run lengths"]),
        ({"segmentation": {"size": [60, 80], "counts": "zz"}}, ["run lengths"]),
        ({"id": 100}, ["100", "twice"]),
        ({"id": "x"}, ["'x'"]),
        ({"id": 2**63}, [str(2**63)]),
        ({"area": 10**400}, ["101"]),
    ],
)
def test_wrong_annotations_are_named(root: Path, changes: dict, named: list[str]) -> None:
    content = annotations()
    content["annotations"][1] |= changes
    message = refused(root, content)
    for text in ("instances_train2017.json", str(changes.get("id", 101)), *named):
        assert text in message


@pytest.mark.parametrize("key", ["bbox", "area", "segmentation", "image_id", "category_id", "id"])
def test_missing_keys_are_named(root: Path, key: str) -> None:
    content = annotations()
    del content["annotations"][1][key]
    message = refused(root, content)
    assert f"no '{key}'" in message
    assert ("101" in message) == (key != "id")


@pytest.mark.parametrize("name", ["../../secret.jpg", "/etc/hostname", "", 5])
def test_image_names_stay_in_their_folder(root: Path, name: Any) -> None:
    content = annotations()
    content["images"][1]["file_name"] = name
    assert repr(name) in refused(root, content)


def test_images_of_another_size_than_stated_are_named(root: Path) -> None:
    content = annotations()
    content["images"][2]["width"] = 65  # of image 12
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 12]
    content["annotations"].append(annotation(200, 12, 2))
    message = refused(root, content)
    for text in ("00012.jpg", "image 12", "64 x 64", "65 x 64"):
        assert text in message


def test_images_that_are_not_checked_before_are_named_in_training(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "CHECKED", 1)
    Image.new("RGB", (64, 60)).save(root / "train2017/00012.jpg")
    reader = _Reader(find_coco(str(root)).train, targets=True)
    with pytest.raises(BadImageError, match=r"image 12.*64 x 60.*64 x 64"):
        read_or_skip(reader, 1, {}, skip=False, training=True)


def test_categories_must_be_the_same_in_both(root: Path) -> None:
    content = annotations()
    content["categories"][0]["name"] = "other"
    message = refused(root, content)
    assert "instances_val2017.json" in message


def test_no_objects_at_all(root: Path) -> None:
    content = annotations()
    content["annotations"] = []
    assert "instances_train2017.json" in refused(root, content)
    write_json(root, "train", annotations())
    write_json(root, "val", content)
    assert len(find_coco(str(root)).val) == 5  # validation images need no objects


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 1))
)
def test_run_lengths_are_those_of_pycocotools(mask: np.ndarray) -> None:
    code = coder.encode(np.asfortranarray(mask))
    shape = {"size": [*mask.shape], "counts": code["counts"].decode()}
    assert (decode_shape(shape, *mask.shape) == mask).all()
    runs = run_lengths(shape["counts"])
    assert (decode_shape({"counts": runs}, *mask.shape) == mask).all()
    assert coder.frPyObjects({"size": [*mask.shape], "counts": runs}, *mask.shape) == code


def shifted(reference: COCO) -> dict[int, list[dict[str, Any]]]:
    """Detections by image: true boxes and masks moved a little, with made-up scores."""
    rng = np.random.default_rng(1)
    found: dict[int, list[dict[str, Any]]] = {image: [] for image in SIZES}
    for one in reference.anns.values():
        mask = np.roll(reference.annToMask(one), rng.integers(-9, 9), 1)
        for _ in range(2):
            x, y, width, height = one["bbox"]
            box = [x + rng.integers(-9, 9), y, x + width, y + height + rng.integers(0, 4)]
            category = one["category_id"] if rng.random() < 0.6 else 5
            found[one["image_id"]].append(
                {"box": box, "score": rng.random(), "category": category, "mask": mask}
            )
    return found


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_the_metric_equals_the_reference_on_the_file_itself(root: Path) -> None:
    """Ids of categories with gaps, crowds, boxes without area or outside the image."""
    content = annotations()
    two_points = {106, 108}  # pycocotools would take such a polygon for a box
    content["annotations"] = [a for a in content["annotations"] if a["id"] not in two_points]
    write_json(root, "val", content)
    path = str(root / "annotations/instances_val2017.json")
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(path)
    reference.dataset.setdefault("info", {})  # pycocotools 2.0.10 needs it
    found = shifted(reference)
    split = find_coco(str(root)).val
    label = {category: i for i, category in enumerate(sorted(reference.cats))}
    metric = DetectionMetric(split.truth())
    for image, ones in found.items():
        height, width = SIZES[image]
        masks = np.array([one["mask"] for one in ones], np.uint8).reshape(-1, height, width)
        detections = {
            "boxes": torch.tensor([one["box"] for one in ones]).reshape(-1, 4),
            "scores": torch.tensor([one["score"] for one in ones]),
            "labels": torch.tensor([label[one["category"]] for one in ones], dtype=torch.long),
            "masks": torch.from_numpy(masks),
        }
        metric.add(index_of(split, image), detections)
    result = metric.compute()
    for kind, mine in (("bbox", result.box), ("segm", result.mask)):
        rows = []
        for image, ones in found.items():
            for one in ones:
                x0, y0, x1, y1 = (float(np.float32(v)) for v in one["box"])
                row = {"image_id": image, "category_id": one["category"]}
                row["score"] = float(np.float32(one["score"]))
                if kind == "bbox":
                    row["bbox"] = [x0, y0, x1 - x0, y1 - y0]
                else:
                    row["segmentation"] = coder.encode(np.asfortranarray(one["mask"]))
                rows.append(row)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(reference, reference.loadRes(rows), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        assert mine is not None
        numbers = [mine.ap, mine.ap50, mine.ap75, mine.small]
        assert numbers == pytest.approx([100 * v for v in evaluation.stats[:4]], abs=1e-5)
        assert 5 < evaluation.stats[0] * 100 < 95
        assert evaluation.stats[4] == -1
        assert mine.medium is None
