"""Tables on a terminal: what is in a cell is shown as it is."""

import io

from rich.console import Console

from ablations import tables


def test_brackets_are_no_markup():
    """As in the messages of libraries, which end up in the table of `status`."""
    out = io.StringIO()
    text = "[/__w/third_party/gloo/pair.cc:537] Connection [bold]closed"
    tables.print_table(Console(file=out), [{"detail": text}], title="[all] of it")
    assert text in out.getvalue()
    assert "[all] of it" in out.getvalue()
