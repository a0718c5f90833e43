"""Where numbers come from, as a report tells it."""

import dataclasses

from reporting import finished

from ablations.analysis.outcomes import describe_seeds
from ablations.records import Record, Status
from ablations.report.provenance import provenance_rows

FAILED = Record(Status.FAILED, "it failed")  # before anything was known of it


def test_provenance_counts_the_runs_of_each_value() -> None:
    records = [finished(80.0), finished(81.0, device="H200"), finished(82.0, dirty=True)]
    found = [(r["property"], r["value"], r["runs"]) for r in provenance_rows(records)]
    assert ("program", "commit abcdef012345", "2") in found
    assert ("", "commit abcdef012345, with changes", "1") in found
    assert ("device", "cpu", "2") in found
    assert ("", "H200", "1") in found
    assert ("torch", "2.9.0", "3") in found
    assert ("processes and threads", "1 process, 2 threads", "3") in found
    assert ("wall time", "1 min 30 s in total, 30 s per run", "3") in found
    assert ("trained", "2023-11-14 22:13 UTC to 2023-11-14 22:14 UTC", "3") in found
    assert "unreadable images" not in [name for name, _, _ in found]
    assert provenance_rows([FAILED]) == []
    assert [row["runs"] for row in provenance_rows([*records, FAILED, FAILED])][-1] == "2"
    assert ("device", "cpu", "2") in found


def test_what_some_records_do_not_say_is_told() -> None:
    old = finished(80.0)
    provenance = {name: value for name, value in old.provenance.items() if name != "precision"}
    found = provenance_rows([old, dataclasses.replace(old, provenance=provenance)])
    assert [r["value"] for r in found if r["property"] == "precision"] == ["float32"]
    assert sum(r["value"] == "not recorded" for r in found) == 1


def test_what_changed_while_a_run_was_trained_is_told() -> None:
    change = {"epoch": 3, "update": 7, "what": "precision", "from": "float16", "to": "float32"}
    changed = dataclasses.replace(
        finished(80.0), provenance={**finished(80.0).provenance, "changes": [change]}
    )
    values = [r["value"] for r in provenance_rows([finished(80.0), changed])]
    assert "precision from float16 to float32, epoch 3" in values


def test_provenance_with_many_values_is_cut_and_says_so() -> None:
    found = provenance_rows(finished(80.0, device=f"node{number}") for number in range(30))
    devices = [r for r in found if r["value"].startswith("node") or "other values" in r["value"]]
    assert len(devices) == 13
    assert (devices[-1]["value"], devices[-1]["runs"]) == ("18 other values", "18")


def test_seeds_of_one_state_are_named_as_a_range() -> None:
    states = {
        0: "missing",
        1: "missing",
        2: "failed",
        4: "missing",
        5: "missing",
        6: "missing",
        7: "failed",
    }
    assert describe_seeds(states) == (
        "seed 0 missing, seed 1 missing, seed 2 failed, seeds 4 to 6 missing, seed 7 failed"
    )
    many = {seed: "failed" if seed % 2 else "missing" for seed in range(200)}
    assert describe_seeds(many) == "100 seeds missing, 100 seeds failed"
