"""The likeliest classes of images: those of torchvision's network and preparation."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from command_line import call
from PIL import Image
from test_custom_layers import SOURCE
from test_evaluate import smooth_image

from ablations.data.fashion_mnist import read_fashion_mnist
from ablations.training.checkpoint import save_weights
from modernize import build
from modernize.custom_layers import load_custom_layers
from modernize.weights import load, to_state_dict, write


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images, a ConvNeXt of 1000 classes in timm's layout, and one of three classes."""
    folder = tmp_path_factory.mktemp("predict")
    for number in range(2):
        smooth_image(number).save(folder / f"{number}.png")
    torch.manual_seed(0)
    network = build("downsample", "nano", layer_scale=0.5)
    torch.save(to_state_dict(network, "timm"), folder / "timm.pth")
    write(build("ln", "nano", num_classes=3), folder / "three.pt", "ours")
    for name in ("ant", "bee", "cat"):
        (folder / "data" / name).mkdir(parents=True)
        smooth_image(3).save(folder / "data" / name / "1.png")
    return folder


@pytest.mark.integration
def test_probabilities_are_those_of_timm(files: Path) -> None:
    import timm
    from torchvision import transforms as t

    images = [files / "0.png", files / "1.png"]
    found = json.loads(call("predict", *images, "--weights", files / "timm.pth",
                            "--format", "json"))  # fmt: skip
    prepare = t.Compose(
        [t.Resize(256, t.InterpolationMode.BICUBIC), t.CenterCrop(224), t.ToTensor(),
         t.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )  # fmt: skip
    theirs = timm.models.ConvNeXt(depths=(1, 1, 3, 1), dims=(24, 48, 96, 192)).eval()
    theirs.load_state_dict(torch.load(files / "timm.pth"))
    names = timm.data.ImageNetInfo()
    for number, path in enumerate(images):
        rows = found[5 * number : 5 * number + 5]
        with torch.no_grad():
            values, classes = theirs(prepare(Image.open(path))[None]).softmax(1)[0].topk(5)
        assert [row["class"] for row in rows] == classes.tolist()
        assert [row["probability"] for row in rows] == pytest.approx(values.tolist(), rel=1e-4)
        assert [row["name"] for row in rows] == list(
            map(names.index_to_description, classes.tolist())
        )
        assert {row["image"] for row in rows} == {str(path)}


def test_names_of_classes(files: Path) -> None:
    asked = ("predict", files / "0.png", "--weights", files / "three.pt", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(call(*asked))))
    assert sorted(row["class"] for row in rows) == ["0", "1", "2"]
    assert {row["name"] for row in rows} == {""}
    assert sum(float(row["probability"]) for row in rows) == pytest.approx(1)
    named = list(csv.DictReader(io.StringIO(call(*asked, "--data", files / "data", "--top", "2"))))
    assert [row["class"] for row in named] == [row["class"] for row in rows[:2]]
    assert [row["name"] for row in named] == [
        ["ant", "bee", "cat"][int(r["class"])] for r in rows[:2]
    ]
    assert "0.png" in call("predict", files / "0.png", "--weights", files / "three.pt")


@pytest.mark.integration
def test_a_run_of_one_channel(tiny_images: Path, tmp_path: Path) -> None:
    """The probabilities of its network, with its own mean and standard deviation."""
    settings = ("epochs=2", "batch_size=200", "micro_batch_size=200", "enhanced.warmup_epochs=0",
                "ema_decay=0.5")  # fmt: skip
    call("--only", "gelu", "--name", "study", "--results", tmp_path, "--data", tiny_images,
         "--executor", "debug", *(w for s in settings for w in ("--set", s)))  # fmt: skip
    [run] = tmp_path.glob("study/runs/*")
    images = read_fashion_mnist(str(tiny_images))
    Image.fromarray(images.val[0, 0]).save(tmp_path / "grey.png")
    pixels = torch.tensor(images.train) / 255
    x = torch.nn.functional.pad(torch.tensor(images.val[:1]) / 255, (2, 2, 2, 2))
    for ema, weights in ((False, run), (True, run), (False, run / "weights.pt")):
        given = (weights, "--ema") if ema else (weights,)
        rows = json.loads(call("predict", tmp_path / "grey.png", "--weights", *given,
                               "--top", "10", "--format", "json"))  # fmt: skip
        with torch.no_grad():
            network = load(run / "weights.pt", ema=ema).eval()
            wanted = network((x - pixels.mean()) / pixels.std()).softmax(1)[0]
        assert [row["class"] for row in rows] == wanted.argsort(descending=True).tolist()
        found = [row["probability"] for row in rows]
        assert found == pytest.approx(sorted(wanted.tolist(), reverse=True), rel=1e-4)
        assert {row["class"]: row["name"] for row in rows}[9] == "Ankle boot"
    smooth_image(0).save(tmp_path / "colour.png")
    said = call("predict", tmp_path / "colour.png", tmp_path / "grey.png", "--weights", run)
    [note] = [line for line in said.splitlines() if "one image channel" in line]
    assert "colour.png" in note
    assert "grey.png" not in note


def test_a_run_of_class_folders(files: Path, tmp_path: Path) -> None:
    """Images are prepared with the run's sizes, interpolation, mean and standard deviation."""
    from torchvision import transforms as t

    torch.manual_seed(0)
    network = build("ln", "nano", num_classes=3).eval()
    written = {"name": "image-folder", "source": "", "image_size": 64, "resize": 80,
               "interpolation": "bilinear", "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7],
               "classes": ["ant", "n01440764", "cat"]}  # fmt: skip
    content = {"network": network.state_dict(), "spec": network.spec.to_dict(), "images": written}
    save_weights(tmp_path, content)
    asked = ("predict", files / "1.png", "--weights", tmp_path / "weights.pt", "--format", "json")
    for options, size, resize in (
        ((), 64, 80),
        (("--image-size", "96"), 96, 120),
        (("--image-size", "96", "--resize", "100"), 96, 100),
    ):
        prepare = t.Compose([t.Resize(resize), t.CenterCrop(size), t.ToTensor(),
                             t.Normalize(written["mean"], written["std"])])  # fmt: skip
        with torch.no_grad():
            logits = network(prepare(Image.open(files / "1.png"))[None])[0]
        rows = json.loads(call(*asked, *options))
        assert [row["class"] for row in rows] == logits.argsort(descending=True).tolist()
        highest = sorted(logits.softmax(0).tolist(), reverse=True)
        assert [row["probability"] for row in rows] == pytest.approx(highest, rel=1e-4)
        names = {row["class"]: row["name"] for row in rows}
        assert names == {0: "ant", 1: "tench, Tinca tinca", 2: "cat"}
    for key, value, fault in (
        ("mean", [0.1], "mean"),
        ("std", None, "std"),
        ("classes", ["ant", "bee"], "classes"),
        ("image_size", "large", "image_size"),
    ):
        save_weights(tmp_path, content | {"images": written | {key: value}})
        said = call(*asked, status=2)
        assert "weights.pt" in said
        assert fault in said


def test_custom_layers(files: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SOURCE)
    layer = load_custom_layers(tmp_path / "mine.py").named("activation", "star-relu")
    write(build("ln", "nano", num_classes=3, activation=layer), tmp_path / "w.pt", "ours")
    asked = ("predict", files / "0.png", "--weights", tmp_path / "w.pt")
    assert "0.png" in call(*asked, "--layers", tmp_path / "mine.py")


def test_wrong_use(files: Path) -> None:
    write(build("ln", "nano", in_channels=1), files / "grey.pt", "ours")
    write(build("ln", "nano", num_classes=0), files / "headless.pt", "ours")
    (files / "text.png").write_text("no image")
    image, of = files / "0.png", ("--weights", files / "three.pt")
    for arguments, names in (
        ((image,), ["--weights"]),
        (of, ["IMAGE"]),
        ((files / "none.png", *of), ["none.png"]),
        ((files / "text.png", *of), ["text.png", "PNG"]),
        ((image, "--weights", files / "none.pt"), ["none.pt"]),
        ((image, "--weights", image), ["0.png"]),
        ((image, "--weights", files / "grey.pt"), ["grey.pt", "1 image channel"]),
        ((image, "--weights", files / "headless.pt"), ["headless.pt", "0 classes"]),
        ((image, *of, "--image-size", "16"), ["16", "32"]),
        ((image, *of, "--data", files), ["class folders", "3"]),
    ):
        said = call("predict", *arguments, status=2)
        assert all(name in said for name in names), said
