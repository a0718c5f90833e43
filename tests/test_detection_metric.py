"""Average precision: hand-made cases, and the reference implementation on the same detections."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import PATIENCE
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ablations.data.dense import scenes
from ablations.data.dense.splits import Objects, coco_format
from ablations.evaluation.detection import DetectionMetric, encode

ROOT = Path(__file__).parent.parent
NO_BOXES = np.empty((0, 4), np.float32)


def objects(*boxes: tuple[int, int, int, int], labels: list[int], side: int = 200) -> Objects:
    masks = np.zeros((len(boxes), side, side), np.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = 1
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return Objects(array, np.array(labels, np.int64), masks, NO_BOXES)


def detections(boxes, scores, labels, side: int = 200):
    masks = torch.zeros(len(boxes), side, side, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[int(y0) : int(y1), int(x0) : int(x1)] = 1
    return {
        "boxes": torch.tensor(boxes).float().reshape(-1, 4),
        "scores": torch.tensor(scores).float(),
        "labels": torch.tensor(labels).long(),
        "masks": masks,
    }


def test_hand_made_cases() -> None:
    # One object found exactly (AP 100), one class found with IoU 0.6 (thresholds 0.5, 0.55, 0.6),
    # one class not found, one without objects.
    truth = coco_format(
        [
            objects((0, 0, 20, 20), labels=[0]),  # small
            objects((0, 0, 100, 100), (120, 120, 180, 180), labels=[1, 2]),  # large, medium
        ],
        ["a", "b", "c", "d"],
    )
    metric = DetectionMetric(truth)
    metric.add(0, detections([(0, 0, 20, 20)], [0.9], [0]))
    metric.add(1, detections([(0, 0, 60, 100), (120, 120, 180, 180)], [0.8, 0.7], [1, 0]))
    result = metric.compute()
    assert result.images == 2
    for found in (result.box, result.mask):
        assert found is not None
        assert found.classes == pytest.approx((100, 30, 0, None))
        assert found.ap == pytest.approx(130 / 3)
        assert found.ap50 == pytest.approx(200 / 3)
        assert found.ap75 == pytest.approx(100 / 3)
        assert (found.small, found.medium, found.large) == pytest.approx((100, 0, 30))


def test_no_detections_are_zero_and_no_objects_are_none() -> None:
    metric = DetectionMetric(coco_format([objects((0, 0, 9, 9), labels=[0])], ["a"]))
    metric.add(0, detections([], [], []))
    result = metric.compute()
    assert result.box.ap == 0
    assert result.box.large is None
    empty = DetectionMetric(coco_format([objects(labels=[])], ["a"]))
    empty.add(0, detections([(0, 0, 9, 9)], [0.5], [0]))
    assert empty.compute().box.ap is None


def test_detectors_without_masks_have_no_mask_ap() -> None:
    metric = DetectionMetric(coco_format([objects((0, 0, 9, 9), labels=[0])], ["a"]))
    found = detections([(0, 0, 9, 9)], [0.5], [0])
    del found["masks"]
    metric.add(0, found)
    result = metric.compute()
    assert result.mask is None
    assert result.box.ap == pytest.approx(100)


def test_values_that_are_not_finite_are_counted_and_left_out() -> None:
    metric = DetectionMetric(coco_format([objects((0, 0, 9, 9), labels=[0])] * 2, ["a"]))
    boxes = [(0, 0, 9, 9), (0, 0, 9, 9)]
    bad = detections(boxes, [float("nan"), 0.5], [0, 0])
    metric.add(0, bad)
    metric.add(1, detections(boxes[:1], [0.5], [0]))
    result = metric.compute()
    assert result.not_finite == 1
    assert result.box.ap == pytest.approx(100)


def test_crowds_are_neither_found_nor_missed() -> None:
    truth = coco_format([objects((0, 0, 50, 50), (100, 100, 150, 150), labels=[0, 0])], ["a"])
    truth["annotations"][1] |= {"iscrowd": 1}
    metric = DetectionMetric(truth)
    inside = [(0, 0, 50, 50), (100, 100, 120, 120), (130, 130, 150, 150)]
    metric.add(0, detections(inside, [0.7, 0.9, 0.8], [0, 0, 0]))
    assert metric.compute().box.ap == pytest.approx(100)


def noisy_scenes(count: int):
    """Detections of scenes: true ones moved a little, some missing, some wrong."""
    images = scenes.scenes_with_objects(1, count)
    rng = np.random.default_rng(0)
    for i in range(count):
        target = images.val.target(i)
        kept = rng.random(len(target.boxes)) < 0.8
        shift = rng.integers(-4, 5, 2)
        masks = np.roll(target.masks[kept], shift, (1, 2))
        boxes = target.boxes[kept] + np.array([shift[1], shift[0]] * 2)
        wrong = rng.random(kept.sum()) < 0.3
        labels = np.where(wrong, rng.integers(0, 10, kept.sum()), target.labels[kept])
        scores = rng.random(kept.sum())
        yield (
            i,
            {
                "boxes": torch.from_numpy(boxes),
                "scores": torch.from_numpy(scores),
                "labels": torch.from_numpy(labels),
                "masks": torch.from_numpy(masks),
            },
        )


def by_the_reference(tmp_path, truth, found, kind: str) -> list[float]:
    """The twelve numbers of pycocotools, from files."""
    for annotation in truth["annotations"]:
        code = annotation["segmentation"]
        code["counts"] = code["counts"].decode()
    (tmp_path / "truth.json").write_text(json.dumps({"info": {}, **truth}))
    results = []
    for i, one in found:
        rows = zip(one["boxes"].tolist(), one["scores"].tolist(), one["labels"].tolist(),
                   encode(one["masks"]), strict=True)  # fmt: skip
        for (x0, y0, x1, y1), score, label, code in rows:
            result = {"image_id": i, "category_id": label, "score": score}
            if kind == "bbox":
                result["bbox"] = [x0, y0, x1 - x0, y1 - y0]
            else:
                result["segmentation"] = {**code, "counts": code["counts"].decode()}
            results.append(result)
    (tmp_path / "found.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "found.json")), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats: list[float] = evaluation.stats.tolist()
    return stats


def test_equals_the_reference_on_scenes(tmp_path) -> None:
    count = 24
    images, found = scenes.scenes_with_objects(1, count), list(noisy_scenes(count))
    metric = DetectionMetric(images.val.truth())
    for i, one in found:
        metric.add(i, one)
    first = metric.compute()
    assert metric.compute() == first  # nothing was consumed
    for kind, mine in (("bbox", first.box), ("segm", first.mask)):
        stats = by_the_reference(tmp_path, images.val.truth(), found, kind)
        assert mine is not None
        numbers = [mine.ap, mine.ap50, mine.ap75, mine.small, mine.medium]
        assert numbers == pytest.approx([100 * value for value in stats[:5]], abs=1e-5)
        assert 5 < numbers[0] < 95
        assert stats[5] == -1
        assert mine.large is None


def test_only_the_images_that_were_added_count() -> None:
    truth = coco_format([objects((0, 0, 9, 9), labels=[0])] * 3, ["a"])
    metric = DetectionMetric(truth)
    for i in (2, 0, 2):  # an image that comes twice counts once
        metric.add(i, detections([(0, 0, 9, 9)], [0.5], [0]))
    result = metric.compute()
    assert result.images == 2
    assert result.box.ap == pytest.approx(100)


@pytest.mark.slow
def test_two_processes_count_each_image_once() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    outputs = []
    for start in ([], ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]):
        done = subprocess.run(
            [sys.executable, *start, str(ROOT / "tests/programs/evaluate_scenes.py")],
            capture_output=True, text=True, env=environment, cwd=ROOT, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        outputs.append(json.loads(done.stdout))
    assert outputs[0] == outputs[1]
    assert outputs[0][0] == 11
    assert 10 < outputs[0][1] < 90
