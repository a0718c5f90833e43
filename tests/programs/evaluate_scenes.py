"""Prints the AP and mIoU of made-up predictions on scenes, divided among the processes."""

import json
import os

import torch
import torch.distributed as dist
from torch.nn.functional import one_hot

from ablations.data.dense.loaders import DenseValidationLoader, collate_labels, collate_tests
from ablations.data.dense.scenes import scenes_with_labels, scenes_with_objects
from ablations.data.dense.transforms import Resize
from ablations.data.sampling import Rank
from ablations.data.transforms import BatchFormat
from ablations.evaluation.detection import DetectionMetric
from ablations.evaluation.segmentation import SegmentationMetric

COUNT = 11

process = Rank(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))
if process.world_size > 1:
    dist.init_process_group("gloo")
batches = BatchFormat((0.5,) * 3, (0.1,) * 3, torch.device("cpu"))
options = {"source": "", "batch_size": 2, "process": process, "workers": 0}

objects = scenes_with_objects(1, COUNT)
boxes = DetectionMetric(objects.val.truth())
for _, targets in DenseValidationLoader(
    objects.val, Resize(None), collate_tests, batches, **options
):
    for target in targets:
        index = target["index"]
        true = objects.val.target(index)
        boxes.add(
            index,
            {
                "boxes": torch.from_numpy(true.boxes) + index % 4,
                "scores": torch.linspace(0.1, 0.9, len(true.labels)) * (index + 1) / COUNT,
                "labels": torch.from_numpy(true.labels),
                "masks": torch.from_numpy(true.masks).roll(index % 3, 1),
            },
        )
boxes.gather(process)

labels = scenes_with_labels(1, COUNT)
pixels = SegmentationMetric(labels.num_classes)
for images, true_labels in DenseValidationLoader(
    labels.val, Resize(None), collate_labels, batches, **options
):
    predicted = (3 * images.sum(1).abs()).long() % labels.num_classes
    predicted[:, ::2] = true_labels[:, ::2]
    pixels.add(one_hot(predicted, labels.num_classes).permute(0, 3, 1, 2).float(), true_labels)
if process.world_size > 1:
    dist.all_reduce(pixels.counts)

if process.rank == 0:
    box = boxes.compute()
    print(json.dumps([box.images, box.box.ap, box.mask.ap, pixels.counts.tolist()]))
if process.world_size > 1:
    dist.destroy_process_group()
