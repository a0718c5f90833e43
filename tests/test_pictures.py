"""Pictures of objects and label maps: their pixels, their files, reports and `predict`."""

import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import call
from dense_runs import go, make
from PIL import Image
from pycocotools import mask as coder
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from test_evaluate import smooth_image
from torch import Tensor, nn

from ablations.analysis.outcomes import Outcomes
from ablations.data.dense.splits import IGNORED, Objects
from ablations.data.sampling import Sampling
from ablations.recipe import load_preset
from ablations.records import WEIGHTS, Record, RunFolder, Status, Study, open_study
from ablations.report import page, writer
from ablations.report.examples import class_tables
from ablations.studies.selection import fit_to_images, roadmap
from ablations.tasks.drawing import HUES, color_of, from_text, scaled, to_text, webp
from ablations.tasks.map_pictures import OPACITY, ShownMap
from ablations.tasks.object_pictures import ShownObjects
from ablations.tasks.registry import make_task
from ablations.training.checkpoint import save_weights
from ablations.training.device_context import make_device_context
from ablations.weights.prediction import read_image
from ablations.weights.preparation import preparation
from modernize import build
from modernize.spec import NetSpec
from modernize.steps import STEPS
from modernize.weights import write

PRESETS = ("nano-detection", "nano-segmentation")


def two_objects(scores: Sequence[float] | None = None) -> ShownObjects:
    """A square and, in another corner, one whose mask fills the left half of its box."""
    masks = np.zeros((2, 48, 64), np.uint8)
    masks[0, 10:20, 10:20] = 1
    masks[1, 30:40, 40:45] = 1
    boxes = np.array([[10, 10, 20, 20], [40, 30, 50, 40]], np.float32)
    given = None if scores is None else np.array(scores)
    return ShownObjects(boxes, np.array([3, 1]), masks, given)


def test_edges_of_boxes_and_masks_have_the_colours_of_the_classes() -> None:
    pixels = np.full((48, 64, 3), 100, np.uint8)
    drawn = np.asarray(two_objects().draw(pixels, ["a", "b", "c", "d"], 640))
    assert drawn.shape == (480, 640, 3)
    for x, y, color in ((100, 150, 3), (199, 150, 3), (150, 199, 3), (400, 350, 1), (499, 350, 1)):
        assert tuple(drawn[y, x]) == color_of(color), (x, y)
    inside, outside = drawn[150, 150], drawn[350, 480]
    assert tuple(outside) == (100, 100, 100)  # in the second box, beside its mask
    between = [sorted((100, part)) for part in color_of(3)]
    assert all(low <= value <= high for value, (low, high) in zip(inside, between, strict=True))
    assert tuple(inside) != (100, 100, 100)
    assert tuple(drawn[240, 320]) == (100, 100, 100)


def test_only_objects_with_the_score_are_kept() -> None:
    found = two_objects([0.9, 0.2])
    assert found.above(0.5).describe(["a", "b", "c", "dress"]) == "dress 0.90"
    assert found.above(0.95).describe([]) == "no object"
    assert [row["class"] for row in found.rows([])] == ["3", "1"]
    [first, _] = found.rows(["a", "b", "c", "dress"])
    assert first == {"class": "dress", "score": 0.9, "x0": 10, "y0": 10, "x1": 20, "y1": 20}


def test_pixels_of_a_label_map_are_grey_with_the_colour_of_their_class() -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:] = (200, 100, 50)
    labels = np.zeros((32, 32), np.uint8)
    labels[:, 16:] = 2
    labels[28:, :] = IGNORED
    shown = ShownMap(labels)
    drawn = shown.draw(pixels, ["sky", "b", "tree"], 320)
    [grey] = np.unique(np.asarray(scaled(pixels, 320).convert("L"))).tolist()
    for x, label in ((4, 0), (316, 2)):
        wanted = [grey + (part - grey) * OPACITY for part in color_of(label)]
        assert drawn.getpixel((x, 4)) == pytest.approx(wanted, abs=1)
    assert max(drawn.getpixel((4, 316))) < 110  # type: ignore[arg-type]  # not labelled
    whole = np.asarray(shown.with_legend(drawn, ["sky", "b", "tree"]))
    legend = {tuple(color) for color in whole[:, 320:].reshape(-1, 3)}
    assert {color_of(0), color_of(2)} < legend
    assert color_of(1) not in legend
    assert [row["class"] for row in shown.rows(["sky", "b", "tree"])][2] == "not labelled"
    assert shown.rows(["sky", "b", "tree"])[0] == {"class": "sky", "pixels (%)": 43.75}


def test_many_classes_have_different_colours() -> None:
    assert len({color_of(label) for label in range(150)}) == 150
    assert [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in map(color_of, range(24))] == [*HUES]


def test_what_is_written_is_read_again() -> None:
    found = two_objects([0.9, 0.2])
    again = ShownObjects.from_dict(json.loads(json.dumps(found.to_dict())), 64, 48)
    for name in ("boxes", "labels", "masks", "scores"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name), name)
    none = found.above(1.0)
    assert len(ShownObjects.from_dict(none.to_dict(), 64, 48).masks) == 0
    labels = np.arange(64 * 48, dtype=np.int64).reshape(48, 64).astype(np.uint8)
    read = ShownMap.from_dict(json.loads(json.dumps(ShownMap(labels).to_dict())), 64, 48)
    np.testing.assert_array_equal(read.labels, labels)


@pytest.mark.parametrize("change", [
    {"boxes": [[1, 2, 3]]}, {"boxes": [[1, 2, 3, float("nan")], [1, 2, 3, 4]]}, {"labels": [1]},
    {"labels": [-1, 2]}, {"scores": [0.1]}, {"masks": ["!", "!"]}, {"masks": 3}, {"labels": None},
])  # fmt: skip
def test_damaged_values_are_refused(change: dict[str, Any]) -> None:
    values = two_objects([0.9, 0.2]).to_dict() | change
    with pytest.raises(ValueError, match=r"\w"):
        ShownObjects.from_dict(values, 64, 48)
    for damaged in ({}, {"map": "abc"}, ShownMap(np.zeros((9, 9), np.uint8)).to_dict()):
        with pytest.raises(ValueError, match=r"\w"):
            ShownMap.from_dict(damaged, 64, 48)


class Guesses(nn.Module):
    """A detector that finds what is true, with some faults."""

    def __init__(self, split: Any) -> None:
        super().__init__()
        self.split = split
        self.results: list[dict[str, Any]] = []

    def forward(self, _: Tensor, targets: Any) -> Any:
        return [self.objects(target["index"]) for target in targets]

    def objects(self, index: int) -> dict[str, Tensor]:
        """The true objects; boxes are moved, some have another class, one is missing."""
        true: Objects = self.split.target(index)
        rng = np.random.default_rng(index)
        labels = np.where(rng.random(len(true.labels)) < 0.3, 0, true.labels)[: 4 - index % 2]
        n = len(labels)
        found = {
            "boxes": torch.from_numpy(true.boxes[:n] + rng.uniform(-3, 3, (n, 4))).float(),
            "scores": torch.from_numpy(rng.random(n)).float(),
            "labels": torch.from_numpy(labels),
            "masks": torch.from_numpy(np.roll(true.masks[:n], 2, 1)),
        }
        self.results += [
            {"image_id": index, "category_id": int(label), "score": float(score),
             "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]],
             "segmentation": coder.encode(np.asfortranarray(mask.numpy()))}
            for b, score, label, mask in zip(
                found["boxes"].tolist(), found["scores"], found["labels"], found["masks"],
                strict=True)
        ]  # fmt: skip
        return found


def loaders_of(preset: str) -> tuple[Any, Any, Any]:
    found, run, images = make(preset)
    context = make_device_context("cpu", found.compute)
    sampling = Sampling(len(images.train), 4, 2, 0)
    task = make_task(run.task)
    return (
        task,
        context,
        task.loaders(images, found.data, run.recipe, sampling, context.device, found.compute),
    )


def test_the_ap_of_each_class_is_that_of_pycocotools() -> None:
    task, context, loaders = loaders_of("nano-detection")
    split = loaders.validation.split
    guesses = Guesses(split)
    found = task.evaluate(guesses, loaders.validation, context).classes
    assert len(found) == 10
    truth = COCO()
    truth.dataset = {"info": {}, **split.truth()}  # pycocotools 2.0.10 needs "info"
    truth.createIndex()
    for key, kind, other in (("box_ap", "bbox", "segmentation"), ("mask_ap", "segm", "bbox")):
        rows = [{k: v for k, v in row.items() if k != other} for row in guesses.results]
        measured = COCOeval(truth, truth.loadRes(rows), kind)
        for label, row in enumerate(found):
            measured.params.catIds = [label]
            measured.evaluate()
            measured.accumulate()
            measured.summarize()
            ap = measured.stats[0]
            wanted = None if ap == -1 else pytest.approx(100 * ap, abs=1e-9)
            assert row["name"] == split.truth()["categories"][label]["name"]
            assert row[key] == wanted, row
    assert len({row["box_ap"] for row in found}) > 4


def test_the_iou_of_each_class_is_that_of_its_pixels() -> None:
    task, context, loaders = loaders_of("nano-segmentation")
    model = nn.Module()
    model.segmenter = nn.Module()
    model.segmenter.num_classes = 11  # type: ignore[assignment]
    predicted, true = [], []

    def test(_: Any, images: Tensor) -> Tensor:
        number = sum(map(len, true))
        maps = [loaders.validation.split.target(number + i) for i in range(len(images))]
        true.append(np.stack(maps))
        predicted.append(np.roll(true[-1], 3, 2).clip(0, 9))  # no pixel of the last class
        labels = torch.from_numpy(predicted[-1]).long()
        return nn.functional.one_hot(labels, 11).permute(0, 3, 1, 2).float()

    loaders.validation.test = test
    found = task.evaluate(model, loaders.validation, context).classes
    p, t = np.concatenate(predicted), np.concatenate(true)
    assert [row["name"] for row in found][:2] == ["background", "T-shirt/top"]
    for label, row in enumerate(found):
        union = ((p == label) | (t == label)).sum()
        both = ((p == label) & (t == label)).sum()
        assert row["miou"] == (pytest.approx(100 * both / union) if union else None), row


def examples_of(shows: Any, images: Any) -> dict[str, Any]:
    """The first three validation images, for which the objects of the next one are predicted."""
    written = []
    for number in range(3):
        pixels = images.val.pixels(number)
        true = shows.true(images.val.target(number))
        predicted = shows.true(images.val.target(number + 1))
        image = to_text(webp(Image.fromarray(pixels)))
        both = {"true": true.to_dict(), "predicted": predicted.to_dict()}
        written.append({"number": number, "image": image, **both})
    return {"classes": [*images.classes], "images": written}


def write_dense_study(folder: Path, preset: str) -> Study:
    """Three steps with two finished runs each, whose pictures are of made-up predictions."""
    found = load_preset(preset)
    task = make_task(found.task_choice)
    images = task.load(found.data.model_copy(update={"limit": 4}))
    variants = fit_to_images(
        roadmap("nano", only=["patchify", "gelu", "ln"]), 3, len(images.classes)
    )
    study = Study.merge(
        folder, preset=found, regime="nano", images=images.identity(), variants=variants, seeds=2,
        order=[step.key for step in STEPS],
    )  # fmt: skip
    study.write()
    shows = task.pictures
    assert shows is not None
    for variant, run, run_folder in study.runs():
        run_folder.prepare(run)
        keys = ["box_ap", "mask_ap"] if preset == PRESETS[0] else ["miou"]
        value = 10.0 * run.seed + len(variant.key)
        classes: list[Any] = [{"name": n, **dict.fromkeys(keys, value)} for n in images.classes]
        classes[1] |= dict.fromkeys(keys)
        metrics = dict.fromkeys([m.key for m in task.metrics.metrics], value)
        run_folder.write_examples(examples_of(shows, images))
        run_folder.write_record(
            Record(Status.FINISHED, metrics=metrics, epochs=1, train_loss=1.0, classes=classes)
        )
    return study


@pytest.mark.parametrize("preset", PRESETS)
def test_the_report_shows_images_and_classes(preset: str, tmp_path: Path) -> None:
    study = write_dense_study(tmp_path / "study", preset)
    made = page.make(study)
    assert made.examples is not None
    assert made.examples.columns == ["true", "patchify", "ln"]
    assert [len(row) for row in made.examples.rows] == [3, 3, 3]
    assert [*made.examples.seeds] == [0, 0]
    tables = {metric.key: rows for metric, rows in made.classes}
    assert [*tables] == (["box_ap", "mask_ap"] if preset == PRESETS[0] else ["miou"])
    first, second, *_ = tables[next(iter(tables))]  # a row for each class
    assert {k: v for k, v in first.items() if k != "class"} == {
        "patchify": "13.0", "gelu": "9.0", "ln": "7.0"
    }  # fmt: skip
    assert {v for k, v in second.items() if k != "class"} == {""}
    written = [path.read_text(encoding="utf-8") for path in writer.write(study, best_epoch=False)]
    assert written[0].count("data:image/webp;base64,") == 9
    assert all(text.count("Validation image 2, ln: ") == 1 for text in written)
    for row in made.examples.rows:
        for picture in row:
            content = (study.folder / picture.path).read_bytes()
            assert content == picture.content
            with Image.open(io.BytesIO(content)) as image:
                assert image.size == (320, 320)
    assert not study.faults


def test_pictures_of_the_report_show_the_predicted_boxes(tmp_path: Path) -> None:
    study = write_dense_study(tmp_path / "study", PRESETS[0])
    examples = page.make(study).examples
    assert examples is not None
    [_, folder], _ = study.example_runs()
    values = folder.read_examples()
    assert values is not None
    for which, picture in zip(("true", "predicted"), examples.rows[0], strict=False):
        pixels = np.asarray(Image.open(io.BytesIO(picture.content)).convert("RGB")).astype(int)
        objects = values["images"][0][which]
        x0, y0, x1, _ = (round(2.5 * side) for side in objects["boxes"][0])
        edge = pixels[y0 : y0 + 2, x0:x1].reshape(-1, 3)
        color = color_of(objects["labels"][0])
        assert np.median(abs(edge - color).sum(1)) < 90, which  # the file has losses


def test_a_damaged_file_is_named_and_left_out(tmp_path: Path) -> None:
    study = write_dense_study(tmp_path / "study", PRESETS[1])
    [_, first], [_, last] = study.example_runs()
    values = json.loads(last.examples.read_text())
    values["images"][1]["predicted"] = {"map": "no image"}
    last.examples.write_text(json.dumps(values))
    made = page.make(study)
    assert made.examples is not None
    assert made.examples.columns == ["true", "patchify"]
    assert str(last.examples) in study.faults[last.examples]
    first.examples.write_text("{")
    study = open_study(study.folder)
    assert page.make(study).examples is None
    assert {*study.faults} == {first.examples, last.examples}


def test_the_archive_keeps_what_the_report_shows(tmp_path: Path) -> None:
    study = write_dense_study(tmp_path / "study", PRESETS[0])
    before = page.make(study)
    study.archive()
    shutil.rmtree(study.folder / "runs")
    after = page.make(open_study(study.folder))
    assert after.examples == before.examples
    assert after.classes == before.classes
    assert len([*(study.folder / "examples").iterdir()]) == 2


def test_more_steps_than_classes_are_rows() -> None:
    rows = [{"name": "a", "miou": 1.0}, {"name": "a", "miou": 3.0}]
    records = {0: Record(Status.FINISHED, classes=rows)}
    outcomes = {key: Outcomes({0: Status.FINISHED}, records, {}) for key in ("one", "two", "three")}
    [(metric, table)] = class_tables(outcomes)
    assert metric.key == "miou"
    assert table[0] == {"step": "one", "a": "1.0", "a (2)": "3.0"}
    assert len(table) == 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run of each task, and three images: a scene and two photographs."""
    folder = tmp_path_factory.mktemp("runs")
    for preset in PRESETS:
        assert go(preset, folder / preset) is not None
    _, _, images = make(PRESETS[0])
    (folder / "more").mkdir()
    Image.fromarray(images.val.pixels(0)).save(folder / "scene.png")
    smooth_image(0).save(folder / "photo.jpg")
    smooth_image(1).save(folder / "more/photo.jpg")
    return folder


@pytest.mark.parametrize("preset", PRESETS)
def test_a_run_writes_what_its_network_predicts(preset: str, runs: Path) -> None:
    found, run, images = make(preset)
    folder = RunFolder(runs / preset)
    written, record = folder.read_examples(), folder.read_record()
    assert written is not None
    assert record is not None
    assert written["classes"] == [*images.classes] == [row["name"] for row in record.classes]
    assert len(written["images"]) == 12
    assert folder.examples.stat().st_size < 150_000
    task = make_task(run.task)
    assert task.pictures is not None
    context = make_device_context("cpu", found.compute)
    network = context.put(task.read(runs / preset / WEIGHTS, run.spec, ema=False)).eval()
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (images.mean, images.std))
    for each in written["images"][:3]:
        pixels = images.val.pixels(each["number"])
        near = from_text(each["image"], "RGB").astype(int)
        assert abs(near - pixels).mean() < 6
        x = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - mean) / std
        with torch.no_grad():
            outputs = network(x[None])
        shown = task.pictures.shown
        got = shown.from_dict(each["predicted"], 128, 128)
        if isinstance(got, ShownMap):
            assert (got.labels == outputs[0].argmax(0).numpy()).mean() > 0.999
        else:
            assert len(got.rows([])) == int((outputs[0]["scores"] >= 0.3).sum())
        true = shown.from_dict(each["true"], 128, 128)
        wanted = task.pictures.true(images.val.target(each["number"]))
        assert true.describe(images.classes) == wanted.describe(images.classes)


def test_predict_draws_objects(runs: Path, tmp_path: Path) -> None:
    given = (runs / "scene.png", runs / "photo.jpg", "--weights", runs / PRESETS[0])
    said = call("predict", *given, "--score", "0", "--output", tmp_path / "new", "--format", "json")
    rows = json.loads(said)
    assert {*rows[0]} == {"image", "class", "score", "x0", "y0", "x1", "y1", "picture"}
    assert "Sneaker" in {row["class"] for row in rows}
    sizes = {str(path): read_image(path).size for path in given[:2]}
    for name, size in zip(("scene", "photo"), sizes.values(), strict=True):
        with Image.open(tmp_path / f"new/{name}.predicted.png") as picture:
            ratio = max(640, *size) / max(size)
            assert picture.size == tuple(round(side * ratio) for side in size)
    for row in rows:
        width, height = sizes[row["image"]]
        assert 0 <= row["x0"] <= row["x1"] <= width
        assert 0 <= row["y0"] <= row["y1"] <= height
    said = call("predict", given[0], *given[2:], "--score", "1")
    assert "scene.png" in said
    assert (runs / "scene.predicted.png").is_file()


def test_predict_draws_the_class_of_each_pixel(runs: Path, tmp_path: Path) -> None:
    file = runs / PRESETS[1] / WEIGHTS
    said = call("predict", runs / "scene.png", "--weights", file, "--output", tmp_path,
                "--format", "json")  # fmt: skip
    rows = json.loads(said)
    assert sum(row["pixels (%)"] for row in rows) == pytest.approx(100, abs=0.1)
    with Image.open(tmp_path / "scene.predicted.png") as picture:
        assert picture.height == 640
        assert picture.width > 700  # with the legend
    table = call("predict", runs / "scene.png", "--weights", file, "--output", tmp_path)
    assert all(row["class"] in table for row in rows)


def test_a_detector_may_have_one_class(runs: Path, tmp_path: Path) -> None:
    content = torch.load(runs / PRESETS[0] / WEIGHTS)
    content["images"]["classes"] = ["person"]
    save_weights(tmp_path, content)
    spec = NetSpec.from_dict(content["spec"]).replace(num_classes=1)
    assert preparation(str(tmp_path), spec, None, None).classes == ["person"]


def test_wrong_use_of_predict(runs: Path, tmp_path: Path) -> None:
    scene, weights = runs / "scene.png", ("--weights", runs / PRESETS[0])
    write(build("ln", "nano", num_classes=3), tmp_path / "classifier.pt", "ours")
    for arguments, names in (
        ((scene, *weights, "--top", "3"), ["--top", PRESETS[0]]),
        ((scene, *weights, "--data", tmp_path), ["--data"]),
        ((scene, *weights, "--score", "2"), ["--score", "2"]),
        ((scene, *weights, "--output", scene), ["--output", "scene.png"]),
        ((scene, *weights, "--step", "patchify"), ["patchify"]),
        ((scene, *weights, "--ema"), ["moving average"]),
        ((scene, tmp_path / "none.png", *weights), ["none.png"]),
        ((tmp_path / "classifier.pt", *weights), ["classifier.pt"]),
        (
            (runs / "photo.jpg", runs / "more/photo.jpg", *weights, "--output", tmp_path),
            ["photo.predicted.png", "2"],
        ),
        (
            (scene, "--weights", tmp_path / "classifier.pt", "--output", tmp_path),
            ["--output", "classifier.pt"],
        ),
    ):
        said = call("predict", *arguments, status=2)
        assert all(name in said for name in names), said
