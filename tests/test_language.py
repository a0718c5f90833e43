"""The list of phrases that are not plain English: where it looks, and what it lets pass."""

from pathlib import Path

import pytest
from language import faults, main

PYTHON = '''"""Where there
is none, this is done anew."""

# A plugin of
# one's own.
print("but " "for", f"{1} whole numbers")
anew = "standard deviation"  # a name is not a text
'''


def test_texts_of_python_are_read_and_names_are_not(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(PYTHON)
    assert [(line, phrase) for line, phrase, _ in faults(path)] == [
        (1, "Where there is none"),
        (2, "anew"),
        (4, "of one's own"),
        (6, "but for"),
        (6, "whole numbers"),
    ]


def test_other_files_are_read_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page.md").write_text("Plain.\n\nStudies\nlie in results/.\n")
    (tmp_path / "weights.bin").write_bytes(b"anew\xff")
    monkeypatch.setattr("sys.argv", ["language.py", str(tmp_path)])
    assert main() == 1
    assert f"{tmp_path / 'page.md'}:4: 'lie in'" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["language.py", str(tmp_path / "weights.bin")])
    assert main() == 0
