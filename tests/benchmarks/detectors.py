"""Training images per second of our Mask R-CNN and torchvision's, on the same images.

    python tests/benchmarks/detectors.py [--rounds 5] [--images 2] [--size 128]

Both have a ResNet-50 backbone with all layers trained, 91 classes with the background, and the same
images and boxes; they take turns, so that both see the same load of the machine. The ratio is that
of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn

from modernize import spec_of
from modernize.heads import MASK_RCNN, build_detector


def make_batch(count: int, size: int) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    """Returns images, and four square objects in each."""
    generator = torch.Generator().manual_seed(0)
    targets = []
    for _ in range(count):
        corner = torch.rand(4, 2, generator=generator) * size * 0.6
        boxes = torch.cat([corner, corner + size * 0.3], 1)
        masks = torch.zeros(4, size, size, dtype=torch.uint8)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y0:y1, x0:x1] = 1
        targets.append({"boxes": boxes, "labels": torch.tensor([1, 5, 9, 80]), "masks": masks})
    return torch.rand(count, 3, size, size, generator=generator), targets


def trainer(
    model: torch.nn.Module, lose: Callable[[], dict[str, torch.Tensor]]
) -> Callable[[], float]:
    """Returns a function that trains one step and returns its seconds."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5)

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        sum(lose().values()).backward()
        optimizer.step()
        return time.perf_counter() - start

    return step


def main() -> None:
    """Prints images per second of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--size", type=int, default=128)
    given = parser.parse_args()
    images, targets = make_batch(given.images, given.size)
    torch.manual_seed(0)
    theirs = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=given.size, max_size=given.size,
    )  # fmt: skip
    torch.manual_seed(0)
    ours = build_detector(spec_of("resnet"), MASK_RCNN.replace(num_classes=90))
    steps = {
        "ours": trainer(ours, lambda: ours(images, targets)),
        "torchvision": trainer(theirs, lambda: theirs([*images], targets)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(given.rounds + 1):
        for name, step in steps.items():
            taken = step()
            if number:  # the first one warms up
                seconds[name].append(taken)
    rates = {name: given.images / statistics.median(each) for name, each in seconds.items()}
    for name, rate in rates.items():
        print(f"{name:<12} {rate:.3f} images per second")
    print(f"ratio        {rates['ours'] / rates['torchvision']:.2f}")


if __name__ == "__main__":
    main()
