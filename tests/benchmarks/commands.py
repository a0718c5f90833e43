"""Times the command line as whole processes, and the main job with its memory.

    python tests/benchmarks/commands.py [--repeats N] [--main-job]

Prints the median with its target. The main job trains into a temporary folder; its memory is the
peak of the sum of the proportional set sizes of all its processes (Linux).
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = [sys.executable, str(ROOT / "run_roadmap.py")]


def seconds(*arguments: str) -> float:
    """Returns how long a whole process took."""
    start = time.perf_counter()
    subprocess.run([*RUN, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def tree(pid: int) -> list[int]:
    """Returns a process and all below it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += parents.get(found[-1], [])
    return found


def memory_mib(pid: int) -> float:
    """Returns the proportional set size of a process and all below it."""
    total = 0
    for each in tree(pid):
        try:
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1024


def main_job() -> tuple[float, float]:
    """Returns the seconds and the peak MiB of `run_roadmap.py --until ln` from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        start, peak = time.perf_counter(), 0.0
        process = subprocess.Popen([*RUN, "--until", "ln", "--results", folder])
        while process.poll() is None:
            peak = max(peak, memory_mib(process.pid))
            time.sleep(0.5)
        if process.returncode:
            raise SystemExit(process.returncode)
        return time.perf_counter() - start, peak


MANY = """
title: 1,000 networks
base: {until: downsample}
variants:
  - sweep:
      kernel_size: [3, 5, 9, 11, 13]
      width: [64, 80, 96, 112, 128]
      depths: [[3, 3, 9, 3], [3, 4, 6, 3], [2, 2, 6, 2], [3, 3, 27, 3], [2, 2, 12, 2]]
      spatial_position: [first, middle]
      norms: [all, one]
      norm: [batch, layer]
"""


def main() -> None:
    """Prints a line per command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--main-job", action="store_true", help="train it, too: some minutes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        many = Path(folder) / "many.yaml"
        many.write_text(MANY)
        commands = {
            "--help": 0.5,
            "steps": 0.5,
            "steps ln": 0.5,
            "steps resnet downsample swin --table": 0.5,  # asked again
            f"steps ln --output {folder}/block.svg": 2.0,
            f"steps --output {folder}/road.svg": 2.0,
            "flops --regime resnet50 --regime resnet200": 1.0,  # asked again
            "flops --models": 1.0,  # asked again
            "plan --study leave-one-out --preset imagenet": 1.0,
            f"plan --study {many} --preset imagenet": 5.0,  # 1,001 variants, the base among them
            f"--dry-run --study {many} --results {folder}": 5.0,
            f"plot --from paper --output {folder}/roadmap.png": 3.0,
        }
        for command, aim in commands.items():
            seconds(*command.split())
            times = [seconds(*command.split()) for _ in range(options.repeats)]
            name = command.replace(folder, "FOLDER")
            print(f"{name}: {statistics.median(times):.2f} s (aim: under {aim:g} s)", flush=True)
    if options.main_job:
        took, peak = main_job()
        print(f"--until ln: {took:.0f} s (aim: at most 300 s), {peak:.0f} MiB (at most 2048 MiB)")


if __name__ == "__main__":
    main()
