"""CSV lists: faults by line, splits, labels."""

from pathlib import Path

import pytest
from data_kinds import Row, choose, listed, refused, write


def test_all_faults_of_a_csv_file_are_named_by_line(rows: list[Row], tmp_path: Path) -> None:
    choice = write("csv", tmp_path, rows)
    file = tmp_path / "images.csv"
    lines = file.read_text().splitlines()
    (tmp_path / "files" / "train" / "bee" / "007.png").unlink()
    lines[20] = lines[20].replace(",ant,", ",wolf,")
    lines += [lines[3], "files/x.png,,train,me", "files/y.png,ant,holiday,me"]
    file.write_text("\n".join(lines))
    text = refused(choice)
    for part in ("007.png, line 9", "wolf", "line 21", "line 26", "line 4", "line 27", "line 28",
                 "holiday"):  # fmt: skip
        assert part in text


def test_csv_files_for_each_split(rows: list[Row], tmp_path: Path) -> None:
    whole = listed(write("csv", tmp_path, rows))
    lines = (tmp_path / "images.csv").read_text().splitlines()
    for name, split in (("train", "train"), ("test", "val")):
        own = [",".join(line.split(",")[:2]) for line in lines if f",{split}," in line]
        (tmp_path / f"{name}.csv").write_text("\n".join(["path,label", *own]))
    images = listed(choose("csv", tmp_path))
    assert images.identity() == whole.identity()
    assert any("test" in note for note in images.notes)
    (tmp_path / "test.csv").unlink()
    assert "data.validation" in refused(choose("csv", tmp_path))


def test_labels_that_are_numbers_are_in_their_order(rows: list[Row], tmp_path: Path) -> None:
    numbers = {"ant": "10", "bee": "9", "cat": "0"}
    choice = write("csv", tmp_path, [(split, numbers[name], data) for split, name, data in rows])
    assert listed(choice).classes == ("0", "9", "10")


@pytest.mark.parametrize(
    "text", ["", "file,class\na.png,ant\n", "path,label\n\xff,ant\n", 'path,label\n"a']
)
def test_a_file_that_is_no_list_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "images.csv"
    file.write_bytes(text.encode("latin-1"))
    assert str(file) in refused(choose("csv", file))
