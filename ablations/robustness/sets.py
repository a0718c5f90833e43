"""The sets that robustness is measured on: their layouts, found and checked. No torch here."""

from __future__ import annotations

import csv
import dataclasses
import functools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from PIL import Image

from ablations.data.image_folder import SYSTEM, list_validation
from ablations.data.images import DataError, ListedImages, evenly_spaced
from ablations.data.readers import Reader
from ablations.paths import expand
from ablations.units import integer
from modernize.text import few, plural
from modernize.user_code import digest_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEVERITIES = 5
SAMPLE = 5  # images of a folder whose size is checked before the evaluation


def _rows(name: str) -> list[dict[str, str]]:
    path = Path(__file__).parent / "tables" / f"{name}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@functools.cache
def alexnet_errors() -> Mapping[str, float]:
    """Returns AlexNet's mean error in percent on each corruption of ImageNet-C, in its order."""
    return {row["corruption"]: 100 * float(row["alexnet_error"]) for row in _rows("alexnet_errors")}


@functools.cache
def groups() -> Mapping[str, str]:
    """Returns the group of each corruption of ImageNet-C."""
    return {row["corruption"]: row["group"] for row in _rows("alexnet_errors")}


@functools.cache
def class_names(column: str = "") -> Sequence[str]:
    """Returns ImageNet's classes in the order of a network's logits.

    Args:
        column: ``in_a`` or ``in_r``: only those of ImageNet-A or ImageNet-R; empty: all.
    """
    return [row["wnid"] for row in _rows("classes") if not column or row[column] == "1"]


@dataclasses.dataclass(frozen=True, eq=False)
class Kind:
    """A kind of set.

    Attributes:
        key: in options and files.
        dataset, metric: of its published figures.
        header: of the column of its scores.
        title: of the set.
        corruptions: each corruption with the names that the folders of its severities may have, in
            order; empty: the images are not corrupted.
        subset: the column of its classes, which are the only ones that can be predicted.
    """

    key: str
    dataset: str
    metric: str
    header: str
    title: str
    corruptions: Mapping[str, Sequence[Sequence[str]]] = dataclasses.field(default_factory=dict)
    subset: str = ""

    @property
    def option(self) -> str:
        """The option that names its folder."""
        return "--data" if self.key == "clean" else f"--{self.key}"


_NUMBERED = [[str(severity)] for severity in range(1, SEVERITIES + 1)]


def _c_bar() -> dict[str, Sequence[Sequence[str]]]:
    """Returns the corruptions of ImageNet-C-bar; its generator names folders by parameters."""
    found: dict[str, Sequence[Sequence[str]]] = {}
    for row in _rows("c_bar"):
        values = [float(row[f"severity_{n}"]) for n in range(1, SEVERITIES + 1)]
        parameters = [[f"{value:g}", str(value)] for value in values]
        found[row["corruption"]] = [[*names] for names in parameters]
    return found


KINDS: Mapping[str, Kind] = {
    kind.key: kind
    for kind in (
        Kind("clean", "ImageNet-1K", "top1", "clean", "ImageNet's validation images"),
        Kind(
            "imagenet-c", "ImageNet-C", "mce", "mCE", "ImageNet-C",
            corruptions=dict.fromkeys(groups(), _NUMBERED),
        ),
        Kind(
            "imagenet-c-bar", "ImageNet-C-bar", "ce", "C-bar", "ImageNet-C-bar",
            corruptions=_c_bar(),
        ),
        Kind("imagenet-a", "ImageNet-A", "top1", "A", "ImageNet-A", subset="in_a"),
        Kind("imagenet-r", "ImageNet-R", "top1", "R", "ImageNet-R", subset="in_r"),
        Kind("sketch", "ImageNet-Sketch", "top1", "Sketch", "ImageNet-Sketch"),
    )
}  # fmt: skip
"""The kinds of sets, in the order of the paper's Table 8."""

EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Corruptions of ImageNet-C for validation, which are not part of mCE."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One folder of class folders of a set.

    Attributes:
        name: ``fog/3`` for severity 3 of fog; ``all`` for a set without corruptions.
        folder: of the class folders.
        images: their number.
        digest: of their names, sizes and classes.
    """

    name: str
    folder: Path
    images: int = 0
    digest: str = ""


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """A set on this machine, checked.

    Attributes:
        kind: its kind.
        folder: that the user named.
        parts: its folders of class folders.
        size: (width, height) in pixels of corrupted images; None for others.
        notes: sentences about it.
    """

    kind: Kind
    folder: Path
    parts: Sequence[Part]
    size: tuple[int, int] | None = None
    notes: Sequence[str] = ()

    @property
    def digest(self) -> str:
        """A digest of the names, sizes and classes of all images."""
        return digest_of("".join(f"{p.name} {p.digest}\n" for p in self.parts).encode())

    def list_part(self, part: Part, *, skip_bad_images: bool = False) -> ListedImages:
        """Returns the images of a part, with labels among the classes that can be predicted.

        Reading a corrupted image of another size than the set's raises a DataError.
        """
        names = class_names(self.kind.subset)
        images = list_validation(part.folder, names, skip_bad_images=skip_bad_images)
        if self.size is None:
            return images
        reader = functools.partial(_SizedReader.of, images.reader, self.size)
        return dataclasses.replace(images, reader=reader)


@dataclasses.dataclass(frozen=True)
class _SizedReader:
    """Reads images that must have one size (width, height), which another reader opens."""

    inner: Reader
    size: tuple[int, int]

    @classmethod
    def of(
        cls, make: Callable[[NDArray[Any]], Reader], size: tuple[int, int], items: NDArray[Any]
    ) -> Self:
        return cls(make(items), size)

    def __len__(self) -> int:
        return len(self.inner)

    def path(self, index: int) -> str:
        return self.inner.path(index)

    def contents(self, index: int) -> bytes:
        return self.inner.contents(index)

    def __call__(self, index: int) -> Image.Image:
        image = self.inner(index)
        if image.size != self.size:
            raise DataError(_other_size(image.size, self.size))
        return image


def find_set(key: str, folder: Path, *, skip_bad_images: bool = False) -> ImageSet:
    """Returns a set in a folder that a user names.

    All its images are listed, which takes a minute or more for a whole ImageNet-C.

    Args:
        key: one of :data:`KINDS`.
        folder: the set, or the folder above it.
        skip_bad_images: whether files that clearly are no images become notes, not errors.

    Raises:
        DataError: if corruptions, severities or classes are missing or unknown, severities of a set
            have different numbers of images, or corrupted images different sizes.
    """
    kind, root = KINDS[key], Path(expand(str(folder))).absolute()
    if not root.is_dir():
        raise DataError(f"{kind.option}: there is no folder {root}.")
    found = _find_corrupted(kind, root) if kind.corruptions else [Part("all", _find_plain(root))]
    parts, notes, size = [], [], None
    for part in found:
        images = _list(kind, part, skip_bad_images=skip_bad_images)
        parts.append(dataclasses.replace(part, images=len(images.val), digest=images.digest))
        notes += [f"{kind.title}, {part.name}: {note}" for note in images.notes]
        if kind.corruptions:
            size = _check_size(images, size)
    _check_counts(kind, parts)
    return ImageSet(kind, root, parts, size, notes[:1] if len(parts) > 1 else notes)


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise DataError(f"{root} cannot be listed: {error.strerror or error}.") from error


def _find_plain(root: Path) -> Path:
    """Returns the folder of the class folders: ``root``, or the one folder in it that has them."""
    known = set(class_names())

    def has_classes(folder: Path) -> bool:
        return any(name in known for name in os.listdir(folder))  # noqa: PTH208  # quick

    inner = [] if has_classes(root) else [p for p in _folders(root) if has_classes(p)]
    if len(inner) > 1:
        raise DataError(
            f"{root} has several folders of ImageNet's classes: {few(p.name for p in inner)}; name "
            "one of them."
        )
    return inner[0] if inner else root


def _find_corrupted(kind: Kind, root: Path) -> list[Part]:
    """Returns the parts of a corrupted set; corruptions may be one level deeper, by group."""
    places: dict[str, list[Path]] = {}
    for path in _folders(root):
        for candidate in [path] if path.name in kind.corruptions else [path, *_folders(path)]:
            places.setdefault(candidate.name, []).append(candidate)
    if missing := [name for name in kind.corruptions if name not in places]:
        others = sorted(
            name
            for name in {*places}.difference(kind.corruptions, EXTRA, groups().values())
            if not name.isdecimal()
        )
        raise DataError(
            f"{root} lacks {len(missing)} of the {len(kind.corruptions)} corruptions of "
            f"{kind.title}: {', '.join(missing)}. All of them are needed, directly in it or one "
            f"level deeper" + (f"; it has {few(others)}" if others else "") + "."
        )
    for name in kind.corruptions:
        if len(places[name]) > 1:
            raise DataError(f"{root} has {name} twice: {few(places[name])}; name one of them.")
    return [
        part
        for name, severities in kind.corruptions.items()
        for part in _find_severities(places[name][0], name, severities)
    ]


def _find_severities(
    folder: Path, corruption: str, parameters: Sequence[Sequence[str]]
) -> Iterator[Part]:
    inside = {path.name: path for path in _folders(folder)}
    for severity, names in enumerate(parameters, start=1):
        # A folder 5 is severity 5, unless folders are named by parameters, of which 5 is one.
        numbered = {str(n) for n in range(1, SEVERITIES + 1)} <= {*inside}
        wanted = [str(severity)] if numbered else names
        path = next((inside[name] for name in wanted if name in inside), None)
        if path is None:
            raise DataError(
                f"{folder} lacks severity {severity}: it must have the folders 1 to {SEVERITIES}"
                + (f", or {few(n[0] for n in parameters)}" if names != [str(severity)] else "")
                + f"; it has {few(inside) or 'none'}."
            )
        yield Part(f"{corruption}/{severity}", path)


def _list(kind: Kind, part: Part, *, skip_bad_images: bool) -> ListedImages:
    """Lists the images of a part, after a check of its classes."""
    known, folders = class_names(kind.subset), _folders(part.folder)
    here = {path.name for path in folders if path.name.lower() not in SYSTEM}
    strange = sorted(here.difference(known))
    if strange or (kind.subset and len(here) != len(known)):
        missing = [name for name in known if name not in here]
        lacks = f"lacks {few(missing)}" if missing and kind.subset else ""
        has = f"has {few(strange)}, not of its classes" if strange else ""
        what = f"{kind.title}'s {len(known)}" if kind.subset else "ImageNet's 1,000"
        raise DataError(
            f"{part.folder} has {plural(len(here), 'class folder')} that must be {what} classes: "
            f"it {' and '.join(filter(None, [lacks, has]))}. Each image must be in the folder of "
            "its class, named by its WordNet ID."
        )
    return list_validation(part.folder, known, skip_bad_images=skip_bad_images)


def _check_counts(kind: Kind, parts: Sequence[Part]) -> None:
    """Checks that all severities of a set have the same number of images."""
    [(usual, _)] = Counter(part.images for part in parts).most_common(1)
    if other := [part for part in parts if part.images != usual]:
        names = few(f"{part.name} ({integer(part.images)})" for part in other)
        raise DataError(
            f"the folders of {kind.title} have different numbers of images: {integer(usual)} in "
            f"most of them, but not in {names}. A download or a copy may be incomplete: compare "
            f"{other[0].folder} with its neighbours."
        )


def _check_size(images: ListedImages, usual: tuple[int, int] | None) -> tuple[int, int] | None:
    """Returns the size of some images, which must all have it."""
    reader: Any = images.reader(images.val)
    for index in evenly_spaced(len(images.val), SAMPLE).tolist():
        path = reader.path(index)
        try:
            with Image.open(path) as image:
                size = image.size
        except Exception:  # noqa: S112  # the evaluation names files that cannot be read
            continue
        usual = usual or size
        if size != usual:
            raise DataError(f"{path}: {_other_size(size, usual)}")
    return usual


def _other_size(size: tuple[int, int], usual: tuple[int, int]) -> str:
    return (
        f"it has {size[0]} x {size[1]} pixels, and other images of the set have {usual[0]} x "
        f"{usual[1]}; all must have the same size."
    )
