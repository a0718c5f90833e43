"""Weights evaluated on folders of images: as torchvision would, and in ImageNet's order."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ablations.cli import cli, main
from ablations.costs.reference_models import ReferenceModel
from ablations.data.image_folder import list_validation
from ablations.data.transforms import evaluation_transform
from ablations.training import evaluation
from ablations.training.checkpoint import save_weights
from ablations.weights import validation
from modernize import build

SIZES = ((260, 300), (400, 240), (224, 224), (300, 500), (256, 256), (333, 280))


def smooth_image(number: int) -> Image.Image:
    """A smooth picture, different for each seed."""
    height, width = SIZES[number % len(SIZES)]
    y, x = np.mgrid[0:height, 0:width] / 50
    waves = [np.sin(x * (number + 1) + c) + np.cos(y * (3 - c) + number) for c in range(3)]
    return Image.fromarray((63 * np.stack(waves, 2) + 127).astype(np.uint8))


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A small ResNet of torchvision's with ImageNet's classes, and the file of its weights."""
    from torchvision.models.resnet import Bottleneck, ResNet

    torch.manual_seed(0)
    network = ResNet(Bottleneck, [1, 1, 1, 1])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
    path = tmp_path_factory.mktemp("weights") / "resnet.pth"
    torch.save(network.state_dict(), path)
    return network.eval(), path


def torchvision_ranks(
    network: nn.Module, image: Image.Image, size: int, resize: int | str
) -> list[int]:
    """The classes of an image, likeliest first, by torchvision's own preparation."""
    from torchvision import transforms as t

    wanted = (size, size) if resize == "warp" else resize
    prepare = t.Compose(
        [t.Resize(wanted, t.InterpolationMode.BICUBIC), t.CenterCrop(size), t.ToTensor(),
         t.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )  # fmt: skip
    with torch.inference_mode():
        logits = network(prepare(image)[None])
    return list(logits[0].argsort(descending=True).tolist())


def save(folder: Path, number: int, class_index: int) -> None:
    into = folder / evaluation.synsets()[class_index]
    into.mkdir(parents=True, exist_ok=True)
    smooth_image(number).save(into / f"{number}.png")


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    cli(["evaluate", *map(str, arguments)], standalone_mode=False)
    return capsys.readouterr().out


@pytest.mark.integration
@pytest.mark.parametrize(("size", "resize"), [(224, 256), (384, "warp"), (160, 183)])
def test_accuracy_is_torchvisions(
    resnet: tuple[nn.Module, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    size: int,
    resize: int | str,
) -> None:
    """Three images are under their likeliest class, two under their fourth, one under its tenth."""
    network, weights = resnet
    for number, rank in enumerate((0, 3, 0, 9, 3, 0)):
        save(tmp_path, number, torchvision_ranks(network, smooth_image(number), size, resize)[rank])
    asked = ["--weights", weights, "--data", tmp_path, "--image-size", str(size), "--workers", "0"]
    [found] = json.loads(run(capsys, *asked, "--format", "json"))
    assert found["top1"] == 50
    assert found["top5"] == pytest.approx(100 * 5 / 6)
    assert found["images"] == 6
    assert (found["precision"], found["resize"]) == ("float32", resize)
    assert found["layout"] == "torchvision's or timm's ResNet"
    assert found["paper"] == f"none of this network at {size}"


def test_weights_of_a_run_see_images_as_it_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loss is that of torchvision's preparation with the run's values, and its classes."""
    from torchvision import transforms as t

    names = ["cat", "ant", "bee"]
    written = {"name": "image-folder", "source": "", "image_size": 64, "resize": 80,
               "interpolation": "bilinear", "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7],
               "classes": names}  # fmt: skip
    torch.manual_seed(0)
    network = build("ln", "nano", num_classes=3).eval()
    content = {"network": network.state_dict(), "spec": network.spec.to_dict()}
    save_weights(tmp_path, {**content, "images": written})
    prepare = t.Compose([t.Resize(80), t.CenterCrop(64), t.ToTensor(),
                         t.Normalize(written["mean"], written["std"])])  # fmt: skip
    losses = []
    for number, label in enumerate((0, 2, 2)):
        folder = tmp_path / "data" / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        smooth_image(number).save(folder / f"{number}.png")
        with torch.no_grad():
            logits = network(prepare(smooth_image(number))[None])
        losses.append(nn.functional.cross_entropy(logits, torch.tensor([label])).item())
    of = ["--weights", tmp_path / "weights.pt", "--data", tmp_path / "data", "--workers", "0"]
    [found] = json.loads(run(capsys, *of, "--format", "json"))
    assert found["val_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert [found[key] for key in ("image_size", "resize", "mean", "std")] == [
        written[key] for key in ("image_size", "resize", "mean", "std")
    ]
    assert "0.1, 0.2, 0.3" in run(capsys, *of)
    [larger] = json.loads(run(capsys, *of, "--image-size", "96", "--format", "json"))
    assert (larger["image_size"], larger["resize"]) == (96, 120)
    (tmp_path / "data" / "dog").mkdir()
    assert "'dog'" in message(capsys, *of)
    grey = build("ln", "nano", in_channels=1, num_classes=3)
    values = {"image_size": 64, "mean": [0.1], "std": [0.5]}
    content = {"network": grey.state_dict(), "spec": grey.spec.to_dict()}
    save_weights(tmp_path, {**content, "images": {**written, **values}})
    assert "1 image channel" in message(capsys, *of)


def test_the_transform_is_the_papers() -> None:
    for size, resize in ((224, 256), (384, "warp")):
        choice = evaluation.imagenet_transform(size)
        assert (choice.resize, choice.interpolation) == (resize, "bicubic")
        image = evaluation_transform(choice)(smooth_image(1))
        assert image.size == (size, size)


def test_what_the_paper_says_of_a_network() -> None:
    from modernize.models import MODELS

    said = {name: validation.printed(spec, 224) for name, spec in MODELS.items()}
    assert said["ConvNeXt-T"].startswith("82.1 in Table 1, trained on 1K; 82.9 in Table 1, trained")
    assert "81.97 in Table 10" in said["ConvNeXt-T"]
    assert "76.1 in Table 8" in said["ResNet-50"]
    assert "79.7 in Table 2" in said["ConvNeXt-S (iso.)"]
    assert "85.5 in Table 1" in validation.printed(MODELS["ConvNeXt-L"], 384)


def message(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The exit status (2: wrong use, 1: failure) and the message."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["run_roadmap.py", "evaluate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    said = capsys.readouterr().err
    return f"{ended.value.code}: {said}"


def test_wrong_use(
    resnet: tuple[nn.Module, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, weights = resnet
    (tmp_path / "cats").mkdir()
    (tmp_path / "empty" / "n01440764").mkdir(parents=True)
    tell: Callable[..., str] = lambda *a: message(capsys, *a)  # noqa: E731
    of = ("--weights", weights)
    fetch = ("--weights", "torchvision", "--data", tmp_path)
    for arguments, named in (
        ((), ("--weights", "--step")),
        (of, ("--weights", "--data")),
        ((*of, "--data", tmp_path / "none"), (str(tmp_path / "none"),)),
        ((*of, "--data", tmp_path), ("'cats'", "n01440764")),
        ((*of, "--data", tmp_path / "empty"), ("no images", str(tmp_path / "empty"))),
        ((*of, "--data", tmp_path, "--seed", "1"), ("--seed", "--weights")),
        ((*of, "--step", "resnet", "--data", tmp_path), ("depths", "[1, 1, 1, 1]", "[3, 4, 6, 3]")),
        ((*of, "--data", tmp_path, "--image-size", "16"), ("image size 16",)),
        (fetch, ("--weights", "--step")),
        ((*fetch, "--step", "ln"), ("torchvision", "downsample")),
    ):
        said = tell(*arguments)
        assert said.startswith("2: Error: ")
        assert all(name in said for name in named), said


def test_other_classes_than_imagenets_go_by_name(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).mkdir()
        smooth_image(0).save(tmp_path / name / "x.png")
    images = list_validation(tmp_path, 3)
    assert images.classes == ("a", "b", "c")
    with pytest.raises(validation.UsageError, match=r"3 class folders.* 4"):
        list_validation(tmp_path, 4)


@pytest.mark.integration
def test_torchvision_fetches_its_own_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import models

    asked = []

    def fetched(url: str, **_: object) -> dict[str, torch.Tensor]:
        asked.append(url)
        torch.manual_seed(0)
        return dict(models.resnet50().state_dict())

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetched)
    save(tmp_path, 0, 7)
    of = ("--weights", "torchvision", "--step", "resnet", "--data", tmp_path)
    said = run(capsys, *of, "--workers", "0")
    assert asked == ["https://download.pytorch.org/models/resnet50-0676ba61.pth"]
    assert said.startswith("ResNet-50 (step resnet), weights: torchvision\n")
    assert "1 image of 1 class" in said

    def unreachable(_self: ReferenceModel, _weights: str) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(ReferenceModel, "fetch", unreachable)
    said = message(capsys, *of)
    assert said.startswith("1: Error: ")
    assert "resnet50" in said
    assert "no route to host" in said


@pytest.mark.integration
def test_a_finished_run_is_what_its_record_says(
    few_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("epochs=2", "batch_size=100", "micro_batch_size=100", "enhanced.warmup_epochs=0.5",
                "ema_decay=0.9")  # fmt: skip
    there = ["study", "--results", str(tmp_path)]
    launch = ["--only", "gelu", "--name", *there, "--data", str(few_images), "--executor", "debug"]
    cli([*launch, *(w for s in settings for w in ("--set", s))], standalone_mode=False)
    capsys.readouterr()
    [record] = [json.loads(p.read_text()) for p in tmp_path.glob("study/runs/*/record.json")]
    [found] = json.loads(run(capsys, "--step", "gelu", *there, "--format", "json"))
    assert found["top1"] == record["top1"]
    assert found["top5"] == record["top5"]
    assert found["its record"] == f"{record['top1']:.3f}"
    [average] = json.loads(run(capsys, "--step", "gelu", *there, "--ema", "--format", "json"))
    assert average["its record"] == f"{average['top1']:.3f}"
    assert average["top1"] != found["top1"]
    assert "has no run of 'ln' with seed 0; it has the steps gelu" in message(
        capsys, "--step", "ln", *there
    )
    [path] = tmp_path.glob("study/runs/*/weights.pt")
    torch.save({**torch.load(path, weights_only=True), "run": "gelu-seed1-0123456789"}, path)
    said = message(capsys, "--step", "gelu", *there)
    assert str(path) in said
    assert "gelu-seed1-0123456789" in said
