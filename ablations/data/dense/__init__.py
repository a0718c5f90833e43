"""Images with objects (detection) or with a class for each pixel (semantic segmentation).

A data set is a :class:`~ablations.data.dense.splits.DenseImages`: training and validation images,
each read by its number. Its targets decide which task it serves:

- detection: an :class:`~ablations.data.dense.splits.Objects` for each image;
- segmentation: a label map, uint8 (H, W), classes from 0, 255 ignored.

Loaders (:mod:`ablations.data.dense.loaders`) are used as those of classification: the training
loader yields micro-batches in the order of a :class:`~ablations.data.sampling.Sampling`, the
validation loader yields this process's images once. The images of a batch are padded on the right
and at the bottom to a common size, a multiple of 32 in detection; ``images`` is float32
(B, 3, H, W), normalised, 0 where padded.

====================== ======================================================================
training, detection    ``batch, images, targets``; targets: a list of B dicts of tensors:
                       ``boxes`` float32 (N, 4), x0 y0 x1 y1 in pixels of ``images``;
                       ``labels`` int64 (N,), from 0; ``masks`` uint8 (N, H, W), 0 or 1;
                       ``ignored`` float32 (M, 4), boxes of crowds. N may be 0 after a crop.
                       ``size`` (height, width) is a tuple: the image without its padding.
validation, detection  ``images, targets``; targets: a list of B dicts: ``index``, the number of
                       the image; ``size``, as above; ``original`` (height, width), the size of
                       the image on disk, in whose pixels detections are evaluated.
training, segmentation ``batch, images, labels``; labels int64 (B, H, W), 255 ignored and where
                       padded.
validation, segm.      ``images, labels``: images of one size, as they are on disk; the test
                       resizes them and their logits (:mod:`ablations.evaluation.segmenter`).
====================== ======================================================================

Metrics (:mod:`ablations.evaluation`) take detections by the number of the image, and label maps.
"""
