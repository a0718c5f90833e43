"""The likeliest classes of images: those of torchvision's network and preparation."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from command_line import call
from PIL import Image
from test_evaluate import smooth_image

from modernize import build
from modernize.weights import to_state_dict, write


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
