"""Images with label maps on disk: ADE20K's layout, and other pairs of folders. No torch.

A label map is an 8-bit PNG, in grey or with a palette, of the same name as its image.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from ablations.data.decoding import explain
from ablations.data.dense import image_files
from ablations.data.dense.splits import IGNORED, DenseImages
from ablations.data.directory import File, stat_files, suffix_of
from ablations.data.found import existing_folder
from ablations.data.image_folder import SUFFIXES
from ablations.data.images import DataError
from modernize.files import open_regular
from modernize.text import few, plural

if TYPE_CHECKING:
    from numpy.typing import NDArray

ADE20K_CLASSES = 150
ADE20K_NAMES = "objectInfo150.txt"  # a table with a line for each class; the last cell is the name
NAMES = "classes.txt"  # a name in each line
IMAGES, MAPS = ("images", "image", "img"), ("annotations", "labels", "masks", "label")
SPLITS = (("training", "validation"), ("train", "val"), ("train", "validation"), ("train", "test"))
EXPECTED = (
    "the folder must have images/training, images/validation, annotations/training and "
    "annotations/validation, as ADE20K has (or train and val, and labels or masks); or "
    "train/images, train/labels, val/images and val/labels"
)


class _Pair(NamedTuple):
    """A folder of images and one of label maps, relative to the data set's folder."""

    images: str
    maps: str


@dataclasses.dataclass(frozen=True)
class LabelMapSplit:
    """The images of a split, with their label maps.

    Attributes:
        root: the data set's folder.
        images, maps: bytes (N,), of the files, from ``root`` on.
        num_classes: labels are below it, after ``reduced``.
        reduced: whether label 0 is ignored, and all others are one less.
    """

    root: Path
    images: NDArray[np.bytes_]
    maps: NDArray[np.bytes_]
    num_classes: int
    reduced: bool

    def __len__(self) -> int:
        return len(self.images)

    def path(self, index: int) -> str:
        """Returns the path of an image."""
        return str(self.root / os.fsdecode(self.images[index]))

    def map_path(self, index: int) -> str:
        """Returns the path of a label map."""
        return str(self.root / os.fsdecode(self.maps[index]))

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """Returns an image (H, W, 3)."""
        return image_files.read_pixels(self.path(index))

    def contents(self, index: int) -> bytes:
        """Returns the contents of an image's file and of its label map."""
        return Path(self.path(index)).read_bytes() + Path(self.map_path(index)).read_bytes()

    def target(self, index: int) -> NDArray[np.uint8]:
        """Returns a label map (H, W), 255 ignored.

        Raises:
            ValueError: for another kind of file, a label that is too large, and another size than
                that of the image.
        """
        path = self.map_path(index)
        try:
            labels = read_labels(path)
            size = image_files.image_size(Path(self.path(index)))
        except OSError as error:
            raise ValueError(f"{path} or its image cannot be read: {explain(error)}") from error
        if labels.shape != size:
            raise ValueError(
                f"{path} has {labels.shape[1]} x {labels.shape[0]} pixels, but its image "
                f"{size[1]} x {size[0]}"
            )
        last = self.num_classes - 1 + self.reduced
        if (wrong := (labels > last) & (labels != IGNORED)).any():
            row, column = np.argwhere(wrong)[0].tolist()
            raise ValueError(
                f"{path} has the label {labels[row, column]} at pixel x {column}, y {row}; labels "
                f"are from 0 to {last}, and {IGNORED} is ignored"
            )
        return reduce_zero_label(labels) if self.reduced else labels

    def take(self, chosen: NDArray[np.int64]) -> LabelMapSplit:
        """Returns some of the images, by their numbers (n,)."""
        return dataclasses.replace(self, images=self.images[chosen], maps=self.maps[chosen])


def reduce_zero_label(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns labels that are one less; 0 and 255 become 255."""
    reduced = labels - np.uint8(1)  # 0 becomes 255
    reduced[labels == IGNORED] = IGNORED
    return reduced


def read_labels(path: str) -> NDArray[np.uint8]:
    """Returns a label map (H, W) from an 8-bit PNG.

    Raises:
        OSError: if it cannot be read, or is no PNG.
        ValueError: for more than 8 bits or several channels.
    """
    with open_regular(path) as file, Image.open(file, formats=("PNG",)) as image:
        if image.mode not in ("L", "P"):
            raise ValueError(
                f"{path} has the mode {image.mode}; label maps are 8-bit grey or palette"
            )
        return np.array(image)


def find_label_maps(source: str) -> DenseImages[LabelMapSplit]:
    """Returns the images with label maps of a folder; they are not read, except for some.

    The names of the classes are in a file ``classes.txt`` or ADE20K's ``objectInfo150.txt`` in the
    folder; ADE20K's layout has 150 classes without it. In ADE20K's layout, label 0 is ignored and
    all others are one less.

    Raises:
        DataError: naming the files with all faults.
    """
    root = existing_folder(source, EXPECTED)
    pairs = _find(root)
    ade20k = pairs[0].images == f"images/{SPLITS[0][0]}"
    names = _class_names(root, ade20k)
    faults: list[str] = []
    files: list[File] = []
    splits = []
    for pair in pairs:
        images, maps = _pair_up(root, pair, faults)
        files += [*images, *maps]
        splits.append(
            LabelMapSplit(
                root=root,
                images=np.array([file.path for file in images], np.bytes_),
                maps=np.array([file.path for file in maps], np.bytes_),
                num_classes=len(names),
                reduced=ade20k,
            )
        )
    if not faults:
        for split, pair in zip(splits, pairs, strict=True):
            faults += image_files.faults_of(len(split), split.target, str(root / pair.images))
    if faults:
        raise DataError(". ".join(faults) + ".")
    known = f"{len(names)} {ade20k}".encode()
    digest, times, newest = image_files.identify(files, known)
    return DenseImages(
        name="label-maps",
        source=str(root),
        train=splits[0],
        val=splits[1],
        classes=names,
        digest=digest,
        times=times,
        newest=newest,
    )


def _find(root: Path) -> tuple[_Pair, _Pair]:
    """Returns the folders of training and validation images by their usual names."""
    for names in SPLITS:
        for images in IMAGES:
            for maps in MAPS:
                for form in ("{kind}/{split}", "{split}/{kind}"):
                    pairs = [
                        _Pair(form.format(kind=images, split=n), form.format(kind=maps, split=n))
                        for n in names
                    ]
                    if all((root / p.images).is_dir() and (root / p.maps).is_dir() for p in pairs):
                        return pairs[0], pairs[1]
    has = few(sorted(path.name for path in root.iterdir() if path.is_dir()))
    raise DataError(f"{root} has {f'the folders {has}' if has else 'no folders'}; {EXPECTED}.")


def _class_names(root: Path, ade20k: bool) -> tuple[str, ...]:
    for name, separator in ((NAMES, "\n"), (ADE20K_NAMES, "\t")):
        if (path := root / name).is_file():
            lines = path.read_text(encoding="utf-8").splitlines()[name == ADE20K_NAMES :]
            names = tuple(line.split(separator)[-1].strip() for line in lines if line.strip())
            break
    else:
        if not ade20k:
            raise DataError(
                f"{root} does not say which classes the labels mean; write the name of each class "
                f"into {root / NAMES}, one in a line, that of label 0 first."
            )
        names = tuple(map(str, range(ADE20K_CLASSES)))
    if not 2 <= len(names) < IGNORED:
        raise DataError(
            f"{root}: {plural(len(names), 'class')}; label maps have from 2 to {IGNORED - 1}."
        )
    return names


def _pair_up(root: Path, pair: _Pair, faults: list[str]) -> tuple[list[File], list[File]]:
    """Returns images and label maps in the order of their names; adds faults."""
    images, maps = (
        {path.stem: f"{folder}/{path.name}" for path in _listed(root / folder, suffixes)}
        for folder, suffixes in ((pair.images, SUFFIXES), (pair.maps, frozenset(("png",))))
    )
    for have, other, folder, kind in (
        (images, maps, pair.maps, "label map"),
        (maps, images, pair.images, "image"),
    ):
        if missing := sorted(have.keys() - other.keys()):
            count = plural(len(missing), kind)
            faults.append(f"{root / folder} lacks {count}: {few(missing)}")
    if not images and not maps:
        faults.append(f"{root / pair.images} has no images")
    stems = sorted(images.keys() & maps.keys())
    found = [stat_files(root, [names[stem] for stem in stems]) for names in (images, maps)]
    for files in found:
        faults += image_files.missing_faults(files, str(root))
    return found[0], found[1]


def _listed(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Returns the files of a folder with some suffixes; hidden ones are ignored.

    Raises:
        DataError: if it cannot be listed.
    """
    try:
        return [
            path
            for path in folder.iterdir()
            if suffix_of(path.name) in suffixes and not path.name.startswith(".")
        ]
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror or error}.") from error
