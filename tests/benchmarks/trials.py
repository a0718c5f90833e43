"""Kills launches at random moments, and starts several at once; nothing may be lost or doubled.

    python tests/benchmarks/trials.py [--kills 60] [--launches 200] [--seed 0] [--folder FOLDER]

Each launch is a separate process that trains a few steps of the roadmap on 100 images. Prints the
numbers of launches, kills and outcomes; exits with status 1 if

- a finished run was trained again, or its record changed or disappeared;
- a run was started twice although no launch was killed;
- a run of an accepted launch, a step or seed of study.json, or a row of summary.csv is missing;
- weights or metrics differ in one bit from those of undisturbed launches.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import csv
import dataclasses
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
STEPS = ("resnet", "gelu", "ln")
SEEDS = 2
SHORT = ("data.limit=100", "batch_size=50", "micro_batch_size=50", "warmup_epochs=0", "epochs=2")
LONGEST = 15.0  # seconds after which a launch is killed at the latest
EXECUTORS = ("local", "debug", "debug")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclasses.dataclass(frozen=True)
class Launch:
    """A launch that was started."""

    pid: int
    steps: Sequence[str]
    seeds: int

    @property
    def asked(self) -> set[tuple[str, int]]:
        return {(step, seed) for step in self.steps for seed in range(self.seeds)}


class Trials:
    """Launches into one results folder, with counts and faults."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.counts: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []
        self.settled: dict[Path, bytes] = {}

    def start(self, study: str, steps: Sequence[str], seeds: int, executor: str) -> Launch:
        """Starts a launch in a forked process, which has all imports already, on one core."""
        arguments = ["--name", study, "--only", ",".join(steps), "--seeds", str(seeds)]
        arguments += ["--results", str(self.folder), "--executor", executor]
        arguments += [word for setting in SHORT for word in ("--set", setting)]
        core = self.random.choice(sorted(os.sched_getaffinity(0)))
        if (pid := os.fork()) == 0:
            os.setsid()
            os.sched_setaffinity(0, {core})
            with (self.folder / "log.txt").open("a") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os._exit(_main(arguments))
        self.counts["launches"] += 1
        return Launch(pid, steps, seeds)

    def end(self, launch: Launch) -> int:
        """Waits for a launch; returns its exit status, or the negative number of its signal."""
        _, status = os.waitpid(launch.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        self.counts[f"exit status {code}"] += 1
        return code

    def kill(self, launch: Launch) -> None:
        """Signals a launch, all its processes (as Ctrl-C does), or one that it started."""
        number = self.random.choice(SIGNALS)
        whom = self.random.choice(("launch", "all", "run"))
        with contextlib.suppress(ProcessLookupError):
            if whom == "all":
                os.killpg(launch.pid, number)
            else:
                others = list(_descendants(launch.pid))
                alone = whom == "launch" or not others
                os.kill(launch.pid if alone else self.random.choice(others), number)
        self.counts[f"{number.name} to {whom}"] += 1
        self.counts["kills"] += 1

    def look(self, study: str) -> dict[tuple[str, int], str]:
        """Returns how all runs of a study ended, having missed no record that was there before."""
        from ablations.records import Study

        found = {}
        path = self.folder / study
        if not (path / "study.json").exists():
            return {}
        for known, content in self.settled.items():
            if known.is_relative_to(path) and known.read_bytes() != content:
                self.faults.append(f"{known} changed")
        for _, run, folder in Study.open(path).runs():
            record = folder.read_record()
            found[run.key, run.seed] = str(record.status) if record else ""
            if record and record.settled:
                file = folder.path / "record.json"
                self.settled.setdefault(file, file.read_bytes())
        return found

    def check(self, study: str, asked: set[tuple[str, int]], begun_once: bool) -> None:
        """Notes what is wrong with a study of which these runs were asked for."""
        ends = self.look(study)
        path = self.folder / study
        steps, seeds = {step for step, _ in asked}, {seed for _, seed in asked}
        everything = {(step, seed) for step in steps for seed in seeds}
        if set(ends) != everything:
            self.faults.append(f"{study} lists {sorted(ends)}, not {sorted(everything)}")
        lost = [run for run in asked if ends.get(run) not in ("finished", "collapsed")]
        if lost:
            self.faults.append(f"{study} lacks {sorted(lost)}")
        with (path / "summary.csv").open() as file:
            rows = {row["step"] for row in csv.DictReader(file)}
        if rows != steps:
            self.faults.append(f"{study}: summary.csv has {sorted(rows)}, not {sorted(steps)}")
        for history in path.glob("runs/*/history.jsonl"):
            lines = [json.loads(line) for line in history.read_text().splitlines()]
            begun = [line["time"] for line in lines if line["event"] == "started"]
            self.counts["runs begun"] += len(begun)
            ended = history.parent / "record.json"
            if not ended.exists():
                continue
            if begun_once and len(begun) > 1:
                self.faults.append(f"{history.parent} was begun {len(begun)} times")
            if begun[-1] > json.loads(ended.read_text())["provenance"]["ended"]:
                self.faults.append(f"{history.parent} was begun after its end")
        self.counts["studies"] += 1

    def compare(self, study: str) -> None:
        """Notes where the weights and metrics of a study are not those of the reference."""
        import torch

        for folder in (self.folder / study / "runs").iterdir():
            if not (folder / "weights.pt").exists():
                continue
            undisturbed = self.folder / "reference" / "runs" / folder.name
            ours, theirs = (
                torch.load(f / "weights.pt", weights_only=True)["network"]
                for f in (folder, undisturbed)
            )
            same = all(torch.equal(ours[name], theirs[name]) for name in theirs)
            texts = {(f / "metrics.jsonl").read_text() for f in (folder, undisturbed)}
            if not same or len(texts) > 1:
                self.faults.append(f"{folder} differs from {undisturbed}")
            self.counts["runs compared"] += 1

    def some_steps(self) -> list[str]:
        return self.random.sample(STEPS, self.random.randint(1, len(STEPS)))


def _main(arguments: list[str]) -> int:
    from ablations import cli

    sys.argv = ["run_roadmap.py", *arguments]
    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:  # whatever a user would see
        import traceback

        traceback.print_exc()
    return 1


def _descendants(pid: int) -> Iterator[int]:
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            yield child
            yield from _descendants(child)


def reference(trials: Trials) -> None:
    """Trains everything undisturbed."""
    launch = trials.start("reference", STEPS, SEEDS, "local")
    if trials.end(launch):
        raise SystemExit(f"the undisturbed launch failed; see {trials.folder / 'log.txt'}")
    trials.check("reference", launch.asked, begun_once=True)


def kills(trials: Trials, wanted: int, seconds: float) -> None:
    """Launches all steps and kills that, over and over, until the study is whole; then the next."""
    number = 0
    while trials.counts["kills"] < wanted:
        study, whole = f"killed-{(number := number + 1)}", False
        while not whole:
            executor = trials.random.choice(EXECUTORS[:2])
            launch = trials.start(study, STEPS, SEEDS, executor)
            if trials.counts["kills"] < wanted:
                time.sleep(trials.random.uniform(0, seconds))
                trials.kill(launch)
            whole = trials.end(launch) == 0
            trials.look(study)
        trials.check(study, launch.asked, begun_once=False)
        trials.compare(study)


def together(trials: Trials, wanted: int) -> None:
    """Starts two to four launches of some steps at once, round by round, a few in each study."""
    number, rest = 0, trials.counts["launches"]
    while trials.counts["launches"] - rest < wanted:
        study, asked = f"together-{(number := number + 1)}", set[tuple[str, int]]()
        for _ in range(5):
            launches = []
            for _ in range(trials.random.randint(2, 4)):
                seeds, executor = trials.random.randint(1, SEEDS), trials.random.choice(EXECUTORS)
                launches.append(trials.start(study, trials.some_steps(), seeds, executor))
                time.sleep(trials.random.choice((0, 0, 0.5, 1.5)))
            for launch in launches:
                code = trials.end(launch)
                if code == 0:
                    asked |= launch.asked
                elif code != 2:  # refused, because another one trains
                    trials.faults.append(f"{study}: a launch ended with status {code}")
            trials.look(study)
        trials.check(study, asked, begun_once=True)
        trials.compare(study)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--launches", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    # Imported once for all launches, which are forks of this process.
    import ablations.analysis.summary
    import ablations.charts.figures
    import ablations.cli
    import ablations.training.train  # noqa: F401

    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        trials = Trials(folder, options.seed)
        began = time.monotonic()
        with contextlib.suppress(KeyboardInterrupt):  # then it says what was done until then
            reference(trials)
            kills(trials, options.kills, min(time.monotonic() - began, LONGEST))
            together(trials, options.launches)
        for name, count in sorted(trials.counts.items()):
            print(f"{count:6d} {name}")
        print(f"{len(trials.settled):6d} settled records, none of them lost or changed since")
        print(f"{len(trials.faults):6d} faults, seed {options.seed}")
        print(f"{time.monotonic() - began:6.0f} seconds")
        for fault in trials.faults:
            print(f"FAULT: {fault}")
        raise SystemExit(bool(trials.faults))


if __name__ == "__main__":
    main()
