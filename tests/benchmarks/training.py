"""Times training on the CPU: this project, timm's script, the release's defaults, interleaved.

    python tests/benchmarks/training.py [--timm-script PATH/train.py] [--official PATH]

The preset `imagenet`, at 224 x 224 and with small batches, on a folder of JPEGs that is made here
(500 x 375, about 100 KB each). The programs are

- ours: ablations.training.train, as the commands call it: bf16 if the CPU has instructions for it,
  channels-last;
- timm: its training script (which its package does not contain), the same recipe, in the same
  precision, channels-last, and otherwise its defaults; with --torchcompile if --compile is given,
  which also compiles ours;
- release: the defaults of the authors' release, fp32 and contiguous memory. Its script needs a GPU
  after every update, so a plain loop of the same calls replaces it, with the release's own network
  from a checkout (--official) or timm's, and timm's ResNet-50.

Each training is a separate process, and the programs alternate (A B C A B C ...), so that other
load on the machine affects all of them. The time is the same for all: the wall clock from one
update to the next, including the wait for images. For ours it is taken when the loop asks for the
next images, for timm from the output of its script, for the release after each update. The first
updates (--warmup) and everything before them are excluded: imports, the start of workers, the first
iterations. So are validation and checkpoints; the time of one checkpoint is printed last. On a
machine that others use, `fastest` is the steadier figure: the speed of the fastest update.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # so that it also runs where the project is not installed

CLASSES = 10
SIZE = 224
IMAGENET_100 = 126_689  # training images of the usual hundred classes
TIMM_NAMES = {"downsample": "convnext_tiny", "resnet": "resnet50"}
# `python SCRIPT ...`, also if Pillow refuses the 0 bits that timm's RandAugment sometimes requests.
START = """
import runpy, sys
sys.path.insert(0, {root!r})
from PIL import ImageOps
posterize = ImageOps.posterize
ImageOps.posterize = lambda image, bits: posterize(image, max(bits, 1))
sys.path.insert(0, {folder!r})
sys.argv = {argv!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def cores() -> int:
    """Returns how many cores this process may use."""
    from ablations.devices import core_count

    return core_count()


def make_images(folder: Path, train: int, val: int) -> int:
    """Writes an image folder of noise, smooth and fine; returns the mean size of a file."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    sizes = []
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            path = folder / split / f"class{number % CLASSES}" / f"{number}.jpeg"
            path.parent.mkdir(parents=True, exist_ok=True)
            small = Image.fromarray(draw.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            smooth = np.asarray(small.resize((500, 375), Image.Resampling.BICUBIC), np.float32)
            noisy = smooth + draw.normal(0, 11, smooth.shape)
            pixels = noisy.clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(path, quality=92)
            sizes.append(path.stat().st_size)
    return sum(sizes) // len(sizes)


def load(options: argparse.Namespace, folder: Path):
    """Returns the preset with the settings of this benchmark."""
    from ablations.recipe import load_preset

    values = {
        "data.source": folder,
        "epochs": 1,
        "warmup_epochs": 0,
        "batch_size": options.batch,
        "micro_batch_size": options.batch,
        "learning_rate": 4e-3 * options.batch / 4096,
        "compute.workers": options.workers,
        "compute.compile": str(options.compile).lower(),
    }
    return load_preset("imagenet", [f"{key}={value}" for key, value in values.items()])


def ours(options: argparse.Namespace, folder: Path, step: str) -> dict:
    """Trains as the commands do; returns seconds of updates, of waiting for images, of saving."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as ablations.processes does
    import torch

    from ablations.data.datasets import load_dataset
    from ablations.data.loaders import make_loaders
    from ablations.data.sampling import Sampling
    from ablations.records import Run, RunFolder
    from ablations.training import checkpoint
    from ablations.training.device_context import make_device_context
    from ablations.training.train import train
    from modernize import spec_of

    torch.set_num_threads(options.threads)
    preset = load(options, folder)
    images = load_dataset(preset.data)
    recipe = preset.recipes.of("enhanced", preset.regime)
    spec = spec_of(step, preset.regime, num_classes=images.num_classes)
    run = Run(step, recipe.apply_to(spec), recipe, images.identity(), seed=0)
    context = make_device_context("cpu", preset.compute)
    sampling = Sampling(len(images.train), recipe.batch_size, recipe.micro_batch_size, run.seed)
    loaders = make_loaders(
        images,
        preset.data,
        recipe,
        sampling,
        context.device,
        preset.compute,
        threads=options.threads,
    )
    times: list[float] = []
    waits: list[float] = []
    served = loaders.train.epoch

    def watched(*where):
        for batch in served(*where):
            yield batch
            times.append(
                time.perf_counter()
            )  # the update is complete; the loop asks for the next batch
            waits.append(loaders.train.data_wait)

    loaders.train.epoch = watched
    saves: list[float] = []
    save = checkpoint.save

    def timed_save(*what):
        start = time.perf_counter()
        save(*what)
        saves.append(time.perf_counter() - start)

    checkpoint.save = timed_save
    with tempfile.TemporaryDirectory() as results:
        run_folder = RunFolder(Path(results) / "run")
        run_folder.prepare(run)
        train(run, run_folder, loaders, context)
    return {
        "seconds": between(times),
        "waits": between(waits),
        "saves": saves,
        "precision": str(context.dtype).removeprefix("torch."),
    }


def between(times: list[float]) -> list[float]:
    """Returns the differences between neighbours, starting with the first time itself."""
    return [b - a for a, b in zip([0.0, *times], times, strict=False)]


def timm(options: argparse.Namespace, folder: Path, step: str) -> dict:
    """Runs timm's training script; returns seconds of updates."""
    from ablations.training.device_context import resolve_precision

    preset = load(options, folder)
    recipe = preset.recipes.of("enhanced", preset.regime)
    import torch

    dtype = resolve_precision(preset.compute.precision, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as results:
        arguments = {
            "--data-dir": folder, "--train-split": "train", "--val-split": "val",
            "--model": TIMM_NAMES[step], "--num-classes": CLASSES, "--img-size": SIZE,
            "--device": "cpu", "--batch-size": options.batch, "--workers": options.workers,
            "--opt": "adamw", "--lr": recipe.learning_rate, "--weight-decay": recipe.weight_decay,
            "--epochs": 1, "--warmup-epochs": 0, "--aa": recipe.rand_augment,
            "--train-interpolation": preset.data.interpolation, "--mixup": recipe.mixup,
            "--cutmix": recipe.cutmix, "--reprob": recipe.random_erasing,
            "--smoothing": recipe.label_smoothing, "--drop-path": recipe.drop_path,
            "--log-interval": 1, "--output": results,
        }  # fmt: skip
        switches = ["--channels-last"]
        if dtype is torch.bfloat16:
            switches += ["--amp", "--amp-dtype", "bfloat16"]
        if options.compile:
            switches += ["--torchcompile"]
        script = options.timm_script.resolve()
        words = [str(word) for pair in arguments.items() for word in pair]
        start = START.format(
            root=str(ROOT), folder=str(script.parent), argv=[str(script), *words, *switches]
        )
        done = subprocess.run(
            [sys.executable, "-c", start], capture_output=True, text=True, cwd=script.parent
        )
    seconds = re.findall(r"Train: 0 .* Time: ([\d.]+)s", done.stdout + done.stderr)
    if done.returncode or not seconds:
        raise SystemExit(f"timm's script failed:\n{done.stderr[-2000:]}")
    return {"seconds": [float(each) for each in seconds]}


def release_network(options: argparse.Namespace, step: str, drop_path: float):
    """Returns the release's network; timm's without a checkout, or if it has no such network."""
    import timm

    if step == "downsample" and options.official:
        sys.path.insert(0, str(options.official))
        from models.convnext import ConvNeXt  # by default the tiny one

        return ConvNeXt(num_classes=CLASSES, drop_path_rate=drop_path)
    return timm.create_model(
        TIMM_NAMES[step], num_classes=CLASSES, drop_path_rate=drop_path, pretrained=False
    )


def release(options: argparse.Namespace, folder: Path, step: str) -> dict:
    """Trains by a plain loop with the release's defaults; returns seconds of updates."""
    import torch
    import torch.nn.functional as F

    preset = load(options, folder)
    recipe = preset.recipes.of("enhanced", preset.regime)
    network = release_network(options, step, recipe.drop_path).train()
    from PIL import ImageOps
    from timm.data import Mixup, create_transform
    from torchvision.datasets import ListedImages

    transform = create_transform(
        SIZE,
        is_training=True,
        color_jitter=0.4,
        auto_augment=recipe.rand_augment,
        interpolation=preset.data.interpolation,
        re_prob=recipe.random_erasing,
        re_mode="pixel",
    )
    loader = torch.utils.data.DataLoader(
        ListedImages(str(folder / "train"), transform),
        options.batch,
        shuffle=True,
        num_workers=options.workers,
        drop_last=True,
    )
    mixup = Mixup(
        recipe.mixup, recipe.cutmix, label_smoothing=recipe.label_smoothing, num_classes=CLASSES
    )
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    times = []
    posterize = ImageOps.posterize
    ImageOps.posterize = lambda image, bits: posterize(image, max(bits, 1))  # as in START
    for images, labels in loader:
        x, target = mixup(images, labels)
        loss = F.cross_entropy(network(x), target)
        loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter())
    return {"seconds": between(times)}


SIDES = {"ours": ours, "timm": timm, "release": release}


def turn(options: argparse.Namespace, folder: Path, side: str, step: str) -> dict:
    """Trains with one program in a separate process; returns its output and images per second."""
    command = [sys.executable, __file__, *sys.argv[1:], "--turn", side, step, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{side}, {step}:\n{done.stderr[-3000:]}")
    said = json.loads(done.stdout.splitlines()[-1])
    steady = said["seconds"][options.warmup :]
    said["images_per_second"] = options.batch * len(steady) / sum(steady)
    if "waits" in said:
        said["data_wait"] = sum(said["waits"][options.warmup :]) / sum(steady)
    return said


def why_not_official(options: argparse.Namespace) -> str:
    """Starts the release's own script with its defaults; returns its last line."""
    script = options.official / "main.py"
    start = START.format(
        root=str(ROOT), folder=str(script.parent), argv=[str(script), "--device", "cpu"]
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", start], capture_output=True, text=True
    )
    return (done.stderr.strip() or "nothing").splitlines()[-1]


def compare(options: argparse.Namespace, folder: Path) -> dict:
    """Alternates between the programs; prints the table and returns all measurements."""
    sides = ["ours", "timm", "release"] if options.timm_script else ["ours", "release"]
    sides = [side for side in sides if side in options.sides]
    results: dict[str, dict[str, list[dict]]] = {}
    for step in options.steps:
        results[step] = {side: [] for side in sides}
        for number in range(options.rounds):
            for side in sides:
                said = turn(options, folder, side, step)
                results[step][side].append(said)
                speed = said["images_per_second"]
                print(f"round {number + 1}: {step}, {side}: {speed:.2f} images/s", flush=True)
    print()
    print(
        f"{'model':<12}{'side':<10}{'images/s':>9}{'spread':>18}{'ours/it':>9}{'spread':>18}{'fastest':>9}{'ours/it':>9}"
    )
    for step, by_side in results.items():
        our = by_side.get("ours", [])
        for side, rounds in by_side.items():
            its = speeds(rounds)
            ratios = [a / b for a, b in zip(speeds(our), its, strict=False)]  # of the same round
            best = fastest(options, rounds)
            line = f"{step:<12}{side:<10}{statistics.median(its):>9.2f}{spread(its):>18}"
            if side == "ours" or not ratios:
                line += f"{'':>27}{best:>9.2f}"
            else:
                line += f"{statistics.median(ratios):>9.2f}{spread(ratios):>18}"
                line += f"{best:>9.2f}{fastest(options, our) / best:>9.2f}"
            print(line)
    for step, by_side in results.items():
        if by_side.get("ours"):
            print(about_ours(step, by_side["ours"]))
    return results


def speeds(rounds: list[dict]) -> list[float]:
    """Returns the images per second of each round."""
    return [said["images_per_second"] for said in rounds]


def fastest(options: argparse.Namespace, rounds: list[dict]) -> float:
    """Returns the images per second of the fastest update, the least disturbed one."""
    return options.batch / min(min(said["seconds"][options.warmup :]) for said in rounds)


def spread(values: list[float]) -> str:
    """Returns the least and the greatest value."""
    return f"{min(values):.2f} to {max(values):.2f}"


def about_ours(step: str, rounds: list[dict]) -> str:
    """Returns a line about our wait for images, and the time of a checkpoint."""
    wait = statistics.median(said["data_wait"] for said in rounds)
    save = statistics.median(s for said in rounds for s in said["saves"])
    epoch = IMAGENET_100 / statistics.median(speeds(rounds))
    return (
        f"ours, {step} ({rounds[0]['precision']}): waits for images {100 * wait:.1f} % of the "
        f"time; a checkpoint takes {save:.2f} s, {100 * save / epoch:.3f} % of an epoch of "
        f"ImageNet-100 ({epoch:.0f} s at this speed)"
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timm-script", type=Path, help="train.py of a checkout of timm")
    parser.add_argument("--official", type=Path, help="a checkout of facebookresearch/ConvNeXt")
    parser.add_argument("--steps", nargs="+", choices=TIMM_NAMES, default=list(TIMM_NAMES))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=cores(), help="the same for all")
    parser.add_argument(
        "--threads", type=int, default=cores(), help="of the network; 1 is steadier"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile for timm and ours")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=5, help="timed in each training")
    parser.add_argument("--warmup", type=int, default=3, help="not timed, before them")
    parser.add_argument("--json", type=Path, help="file for all measurements")
    parser.add_argument("--turn", nargs=3, help=argparse.SUPPRESS)  # side, step, folder of images
    options = parser.parse_args()
    if options.official:
        options.official = options.official.resolve()
    if options.turn:
        side, step, folder = options.turn
        print(json.dumps(SIDES[side](options, Path(folder), step)))
        return

    count = options.batch * (options.warmup + options.updates)
    print(
        f"{cores()} cores; each program has {options.threads} threads and {options.workers} "
        f"workers; batches of {options.batch}"
    )
    if not options.timm_script:
        print("without timm: add its script with --timm-script")
    print("release: fp32, contiguous, in a plain loop, ", end="")
    if options.official:
        print(f"because its script ends with: {why_not_official(options)}")
    else:
        print("with timm's networks (the release's with --official)")
    with tempfile.TemporaryDirectory() as name:
        size = make_images(Path(name), count, 2 * CLASSES)
        print(f"{count} images of {size / 1000:.0f} KB on average\n", flush=True)
        results = compare(options, Path(name))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
