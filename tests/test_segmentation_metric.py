"""Mean IoU and the tests of a segmenter: hand-made cases, and independent ways to compute them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ablations.data.dense.transforms import Size
from ablations.evaluation.segmentation import SegmentationMetric
from ablations.evaluation.segmenter import multi_scale, slide, whole


def one_hot(predicted: torch.Tensor, classes: int) -> torch.Tensor:
    return F.one_hot(predicted, classes).permute(0, 3, 1, 2).float()


def test_a_hand_made_case() -> None:
    labels = torch.tensor([[[0, 0, 1, 1], [0, 1, 255, 255]]])
    predicted = torch.tensor([[[0, 1, 1, 1], [0, 0, 0, 2]]])
    metric = SegmentationMetric(4)
    metric.add(one_hot(predicted, 4), labels)
    result = metric.compute()
    # Class 0: 2 of 3 right, 1 wrong; class 1 the same; 2 only where ignored; 3 nowhere.
    assert result.iou == pytest.approx((50, 50, None, None))
    assert result.miou == pytest.approx(50)
    assert result.mean_accuracy == pytest.approx(200 / 3)
    assert result.pixel_accuracy == pytest.approx(400 / 6)
    assert (result.images, result.not_finite) == (1, 0)


def test_a_class_that_is_only_predicted_counts_in_miou_alone() -> None:
    metric = SegmentationMetric(3)
    metric.add(one_hot(torch.tensor([[[0, 2]]]), 3), torch.tensor([[[0, 0]]]))
    result = metric.compute()
    assert result.iou == pytest.approx((50, None, 0))
    assert result.miou == pytest.approx(25)
    assert result.mean_accuracy == pytest.approx(50)


def test_nothing_counted_is_zero() -> None:
    metric = SegmentationMetric(3)
    metric.add(torch.zeros(1, 3, 2, 2), torch.full((1, 2, 2), 255))
    result = metric.compute()
    assert (result.miou, result.mean_accuracy, result.pixel_accuracy) == (0, 0, 0)
    assert result.iou == (None, None, None)


def test_logits_that_are_not_finite_are_counted() -> None:
    metric = SegmentationMetric(2)
    logits = torch.zeros(3, 2, 2, 2)
    logits[1, 0, 0, 0] = float("nan")
    metric.add(logits, torch.zeros(3, 2, 2, dtype=torch.long))
    assert metric.compute().not_finite == 1


def test_equals_a_confusion_matrix_and_sums_over_processes() -> None:
    generator = torch.Generator().manual_seed(0)
    classes = 7
    logits = torch.randn(6, classes, 9, 8, generator=generator)
    labels = torch.randint(0, classes - 1, (6, 9, 8), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = 255
    metrics = [SegmentationMetric(classes) for _ in range(2)]
    for i in range(6):
        metrics[i % 2].add(logits[i : i + 1], labels[i : i + 1])
    metrics[0].counts += metrics[1].counts
    result = metrics[0].compute()

    known = (labels != 255).numpy()
    true, predicted = labels.numpy()[known], logits.argmax(1).numpy()[known]
    matrix = np.zeros((classes, classes))
    np.add.at(matrix, (true, predicted), 1)
    right, rows, columns = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    iou = right / (rows + columns - right)
    assert result.iou == pytest.approx(list(100 * iou))
    assert result.miou == pytest.approx(100 * iou.mean())
    assert result.mean_accuracy == pytest.approx(100 * (right / np.maximum(rows, 1))[:-1].mean())
    assert result.pixel_accuracy == pytest.approx(100 * right.sum() / known.sum())
    assert result.images == 6


def pointwise(x: torch.Tensor) -> torch.Tensor:
    """A segmenter that sees one pixel at a time: crops do not matter."""
    weight = torch.tensor([[1.0, -1, 0.5], [0.2, 0.3, -2], [1, 1, 1], [0, 0, 3]])
    return F.conv2d(x, weight[:, :, None, None])


def test_sliding_equals_whole_for_a_segmenter_that_sees_single_pixels() -> None:
    x = torch.randn(2, 3, 37, 70, generator=torch.Generator().manual_seed(1))
    for crop, stride in ((16, 10), (32, 21), (100, 50), (37, 37)):
        assert torch.allclose(slide(pointwise, x, crop, stride), pointwise(x), atol=1e-5)
    size = Size(20, 64)
    assert torch.allclose(slide(pointwise, x, 16, 10, size), whole(pointwise, x, size), atol=1e-5)


def test_crops_cover_the_image_as_the_authors_test_does() -> None:
    """Crop 512, stride 341, of an image of 512 x 683 pixels and of 2048 x 512: begins by hand."""
    for width, starts in ((683, [0, 171]), (2048, [0, 341, 682, 1023, 1364, 1536]), (512, [0])):
        seen = []

        def predict(x, seen=seen):
            seen.append((int(x[0, 0, 0, 0]), x.shape[-1]))
            return x[:, :1]

        columns = torch.arange(width).float().expand(1, 3, 512, width)
        averaged = slide(predict, columns, 512, 341)
        assert seen == [(start, 512) for start in starts]
        assert torch.equal(averaged, columns[:, :1])


def test_logits_of_a_lower_resolution_are_resized() -> None:
    x = torch.randn(1, 3, 32, 48)
    result = whole(lambda images: F.avg_pool2d(pointwise(images), 4), x)
    expected = F.interpolate(F.avg_pool2d(pointwise(x), 4), (32, 48), mode="bilinear")
    assert torch.equal(result, expected)


def test_several_scales_and_flips() -> None:
    sizes = []

    def predict(x: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(x.shape[-2:]))
        return pointwise(x)

    x = torch.randn(1, 3, 40, 60, generator=torch.Generator().manual_seed(2))
    found = multi_scale(predict, x, Size(512, 2048))
    shorter = [256, 384, 512, 640, 768, 896]
    assert sizes == [(side, int(side * 1.5 + 0.5)) for side in shorter for _ in range(2)]
    assert torch.allclose(found.sum(1), torch.ones(1, 40, 60), atol=1e-5)
    # One scale without a flip is the softmax of the whole image.
    once = multi_scale(pointwise, x, Size(40), ratios=(1.0,), flip=False)
    assert torch.allclose(once, pointwise(x).softmax(1))


def test_a_flip_is_undone() -> None:
    def left_is_class_1(x: torch.Tensor) -> torch.Tensor:
        ramp = torch.linspace(5, -5, x.shape[-1]).expand(x.shape[0], 1, *x.shape[-2:])
        return torch.cat([torch.zeros_like(ramp), ramp], 1)

    averaged = multi_scale(left_is_class_1, torch.zeros(1, 3, 8, 16), Size(8), ratios=(1.0,))
    assert torch.allclose(averaged, averaged.flip(3), atol=1e-6)
