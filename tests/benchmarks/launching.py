"""Times everything except the training: large studies, submissions, the local queue.

    python tests/benchmarks/launching.py [--runs 10000] [--submit] [--local]

Prints each figure with its target: `status`, `collect`, `compare`, the table of all runs and
`report` over many finished runs, with their memory; `plan` of 1,000 variants of the recipe; with
--submit, the submission of 51 runs to a SLURM cluster that it starts (Debian's packages slurmctld,
slurmd, slurm-client and munge); with --local, the time of a study of the local queue, divided by
that of its trainings.
"""

import argparse
import contextlib
import dataclasses
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
RUN = [sys.executable, str(ROOT / "run_roadmap.py")]

RECIPE_VARIANTS = f"""
title: many recipes
base: {{until: downsample}}
variants:
  - sweep:
      learning_rate: {[round(0.001 + 0.0001 * i, 4) for i in range(20)]}
      weight_decay: {[round(0.01 + 0.001 * i, 3) for i in range(50)]}
"""


def make_study(results: Path, runs: int) -> int:
    """Writes a study of finished runs, and returns how many."""
    from ablations.launching.experiment import design
    from ablations.recipe import load_preset
    from ablations.records import Record, Status
    from ablations.studies.study_file import read_study
    from ablations.studies.variants import resolve_study

    preset = load_preset("nano")
    roadmap = resolve_study(read_study("roadmap"), "nano", preset.recipes)
    variants = roadmap.variants
    seeds = runs // len(variants) + 1
    study = design(results / "large", preset, roadmap, variants, 1).study
    study.manifest["seeds"] = seeds
    study.write()
    record = Record(
        Status.FINISHED,
        metrics={"top1": 80.0, "top5": 99.0, "top1_best": 80.5},
        best_epoch=4,
        epochs=5,
    )
    for number, (_variant, run, folder) in enumerate(study.runs()):
        folder.write_config(run)
        folder.write_metrics(
            {"epoch": epoch, "train_loss": 1.0, "top1": 75.0 + epoch + number % 7, "top5": 99.0}
            for epoch in range(1, record.epochs + 1)
        )
        folder.write_record(
            dataclasses.replace(record, metrics={"top1": 80.0 + number % 7}, seconds=20.0)
        )
    return seeds * len(variants)


def measure(*arguments: str) -> tuple[float, float]:
    """Returns a command's seconds, and the most memory it had, in MiB (Linux)."""
    start, peak = time.perf_counter(), 0.0
    process = subprocess.Popen([*RUN, *arguments], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            peak = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(process.returncode)
    return time.perf_counter() - start, peak


def submit(results: Path) -> float:
    """Returns the seconds of submitting 51 runs to SLURM, without imports."""
    from cluster import Cluster

    with Cluster() as cluster:
        os.environ.update(cluster.env)
        from ablations.cli import cli
        from ablations.launching import slurm

        assert slurm
        options = ["--results", str(results), "--executor", "slurm", "--seeds", "3"]
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()) as said:
            cli(options, standalone_mode=False)
        took = time.perf_counter() - start
        assert "Submitted 51 runs" in said.getvalue()
        cluster.command("scancel", "--user", str(os.getuid()))
    return took


def local(results: Path) -> float:
    """Returns a local study's wall time over its trainings' time shared among the slots."""
    import pandas as pd

    from ablations.devices import find_slots

    start = time.perf_counter()
    subprocess.run([*RUN, "--until", "ln", "--results", str(results)], check=True)
    took = time.perf_counter() - start
    table = pd.read_csv(results / "nano" / "summary.csv")
    return took / (table["seconds"].sum() / len(find_slots(len(table))))


def main() -> None:
    """Prints a line per figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--submit", action="store_true")
    parser.add_argument("--local", action="store_true", help="train a study; some minutes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        runs = make_study(results, options.runs)
        for command, aim in (
            ("status", 3), ("collect", 3), ("compare", 3),
            ("collect --per-run --format csv", 3), ("report", 10),
        ):  # fmt: skip
            name, *words = command.split()
            took, peak = measure(name, "large", *words, "--results", folder)
            print(f"{command}, {runs:,} finished runs: {took:.2f} s (aim: under {aim} s), "
                  f"{peak:.0f} MiB (under 300 MiB)", flush=True)  # fmt: skip
        study = results / "many.yaml"
        study.write_text(RECIPE_VARIANTS)
        took, peak = measure("plan", "--study", str(study), "--results", folder)
        print(f"plan, 1,000 variants of the recipe: {took:.2f} s (aim: under 5 s), {peak:.0f} MiB")
        if options.submit:
            print(f"submit 51 runs: {submit(results / 'submit'):.2f} s (aim: under 5 s)")
        if options.local:
            print(f"local study: {local(results / 'local'):.3f} x its trainings (aim: 1.05)")


if __name__ == "__main__":
    main()
