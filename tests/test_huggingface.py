"""Data sets saved by Hugging Face's library datasets."""

from pathlib import Path

import numpy as np
import pytest
from data_kinds import Row, choose, listed, refused, write_folder


def test_columns_that_are_not_clear_are_named(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    one = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]})
    one.save_to_disk(tmp_path / "one")
    assert "no images" in refused(choose("huggingface", tmp_path / "one"))
    (tmp_path / "two").mkdir()
    assert str(tmp_path / "two") in refused(choose("huggingface", tmp_path / "two"))


def test_one_set_of_files_with_numbers_as_labels(rows: list[Row], tmp_path: Path) -> None:
    """Images stay in their files, and there is no split for validation."""
    datasets = pytest.importorskip("datasets")
    write_folder(tmp_path / "files", rows)
    paths = [str(path) for path in sorted((tmp_path / "files").glob("train/*/*.png"))]
    columns = {"picture": paths, "label": [10 * (i // 6) for i in range(18)]}
    one = datasets.Dataset.from_dict(columns).cast_column("picture", datasets.Image())
    one.save_to_disk(tmp_path / "set")
    choice = choose("huggingface", tmp_path / "set")
    assert "data.validation" in refused(choice)
    images = listed(choice.model_copy(update={"validation": 0.5}))
    assert images.classes == ("0", "10", "20")
    reader = images.reader(images.train)
    assert np.asarray(reader(0)).shape == (40, 48, 3)
