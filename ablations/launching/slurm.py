"""The SLURM executor, and the task of its jobs. Only this module imports submitit."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from ablations.devices import Slot
from ablations.fit import Machine
from ablations.launching.executors import Event, Executor
from ablations.launching.job import Job, record_failure, train_here
from ablations.launching.scheduler import SchedulerError, explain
from ablations.launching.slurm_config import SlurmConfig
from ablations.launching.snapshot import snapshot, snapshot_path
from ablations.recipe import Preset
from ablations.records import SNAPSHOT, RunFolder, RunOwnershipError, read_json
from ablations.records.submissions import Submission, submissions_folder
from ablations.terminal import echo
from modernize.text import plural, shell

WAIT_SECONDS = 900  # how long a run that has saved waits until SLURM ends it or queues it again
MOST_TIMEOUTS = 1_000_000  # submitit gives up after this number


class Task:
    """The task of a SLURM job: train one run, from its last checkpoint if it has one.

    Args:
        threads: of each process.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def checkpoint(self, job: Job) -> submitit.helpers.DelayedSubmission:
        """Returns, for submitit, the task of a job that is queued again: the same."""
        return submitit.helpers.DelayedSubmission(self, job)

    def __call__(self, job: Job) -> None:
        """Trains the run; saves on a signal, and has the job queued again."""
        signals: list[int] = []
        queue_again: Any = signal.getsignal(signal.SIGUSR2)  # submitit's

        def receive(number: int, _frame: FrameType | None) -> None:
            signals.append(number)

        signal.signal(signal.SIGTERM, receive)
        signal.signal(signal.SIGUSR2, receive)
        environment = submitit.JobEnvironment()
        rank = environment.global_rank
        folder = RunFolder(job.folder)
        folder.path.mkdir(parents=True, exist_ok=True)
        _redirect(folder.log if rank == 0 else folder.path / f"log-rank{rank}.txt")
        try:
            stopped = self._train(job, folder, environment, signals)
        except RunOwnershipError as error:
            echo(error)
            return
        except BaseException as error:
            record_failure(folder, error)
            raise SystemExit(1) from None
        if not stopped:
            return
        # SIGTERM alone may begin a preemption, or end the job. If SIGUSR2 follows, it is the first.
        deadline = time.monotonic() + WAIT_SECONDS
        while signal.SIGUSR2 not in signals and time.monotonic() < deadline:
            time.sleep(0.1)
        if signal.SIGUSR2 not in signals:
            return
        if rank == 0:
            folder.add_event("preempted", job=environment.job_id)
            queue_again(signal.SIGUSR2, None)  # it also ends this process
        time.sleep(WAIT_SECONDS)  # the scheduler ends the others

    def _train(
        self,
        job: Job,
        folder: RunFolder,
        environment: submitit.JobEnvironment,
        signals: Sequence[int],
    ) -> bool:
        """Trains to the end, and returns False; or until a signal comes, and returns True."""
        if job.ended(folder):
            echo("This run has ended before; nothing is left to do.")
            return False
        import torch

        from ablations.data.sampling import Rank
        from ablations.training.device_context import make_device_context, process_group, rendezvous

        torch.set_num_threads(self.threads)
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
        if job.alone:
            slot = Slot(device, self.threads)
            return environment.global_rank == 0 and not job.run_in(
                folder, slot, lambda: not signals
            )
        number, restart = environment.job_id, int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        if environment.global_rank == 0 and folder.prepare(job.run, job=number, restart=restart):
            return False
        process = Rank(environment.global_rank, environment.num_tasks)
        with contextlib.ExitStack() as stack:
            if process.world_size > 1:
                # The first process takes the folder before the others can write in it.
                host = environment.hostnames[environment.node]
                store = rendezvous(
                    folder.path / f"rendezvous-{number}-{restart}.json", host, process
                )
                device, process = stack.enter_context(
                    process_group(environment.local_rank, process, store)
                )
            context = make_device_context(device, job.compute, process)
            ended = train_here(job, folder, context, self.threads, lambda: not signals)
        if process.rank == 0:
            for path in folder.path.glob("rendezvous-*.json"):
                path.unlink(missing_ok=True)
        return ended is None


def _redirect(path: Path) -> None:
    """Sends the output of this process, of C libraries too, to a file."""
    with path.open("a", encoding="utf-8") as log:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]  # files here


class Slurm(Executor):
    """Submits runs to SLURM, which trains them later: one array, or several if it is too large.

    Args:
        config: what SLURM is asked for.
    """

    waits = False

    def __init__(self, config: SlurmConfig) -> None:
        self.config = config

    def machine(self, preset: Preset) -> Machine:  # noqa: ARG002
        """See :meth:`Executor.machine`."""
        config = self.config
        # Options of sbatch may ask for GPUs, too.
        unknown = any("gpu" in f"{key}={value}" for key, value in config.options.items())
        device = "cuda" if config.gpus_per_node else "" if unknown else "cpu"
        return Machine(device, config.processes, python=config.python is None)

    def preview(self, study: Path, jobs: Sequence[Job]) -> str:
        """Returns the script that sbatch would get for the first array of these jobs."""
        if not jobs:
            return ""
        executor = _submitit_executor(
            study, snapshot_path(study), self.config, f"{study.name}-TOKEN"
        )
        if len(jobs) > 1:
            executor.parameters["map_count"] = min(len(jobs), self.config.max_array_size)
        return executor._make_submission_file_text(executor._submitit_command_str, "TOKEN")

    def launch(self, study: Path, jobs: Sequence[Job]) -> Generator[Event, None, None]:
        """Submits the jobs and yields one event. All nodes must see the study's folder.

        Raises:
            SchedulerError: with SLURM's message and the key of the SLURM config that it is about.
        """
        if not jobs:
            yield Event(message="Nothing to submit.")
            return
        submissions = _submit(study, snapshot(study), jobs, self.config)
        first = submissions[0]
        changes = ", with changes" if first.dirty else ""
        commit = f" (commit {first.commit[:10]}{changes})" if first.commit else ""
        yield Event(
            message=f"Submitted {plural(len(jobs), 'run')} as SLURM job "
            f"{', '.join(s.jobs or '?' for s in submissions)}, at most "
            f"{self.config.max_running} at a time, {plural(self.config.processes, 'process')} "
            f"each; they run a copy of the program as it is now{commit}.\n{jobs[0].follow(study)}"
        )


def _submit(study: Path, code: Path, jobs: Sequence[Job], config: SlurmConfig) -> list[Submission]:
    """Submits jobs that run the copy of the program in ``code``; returns the submissions."""
    done: list[Submission] = []
    source = read_json(code / SNAPSHOT) or {}
    for start in range(0, len(jobs), config.max_array_size):
        part = jobs[start : start + config.max_array_size]
        submission = Submission(
            token=f"{study.name}-{uuid.uuid4().hex[:8]}",
            runs=[job.folder.name for job in part],
            jobs=None,
            code=str(code),
            commit=source.get("commit"),
            dirty=source.get("dirty"),
            submitted=time.time(),
        )
        # Written before the call, too: if this process dies in between, the jobs are known.
        submission.write(study)
        before = done[-1].jobs if done else None
        executor = _submitit_executor(study, code, config, submission.token, before)
        for job in part:
            RunFolder(job.folder).write_config(job.run)
        try:
            with _quiet(), submitit.helpers.clean_env():
                sent = executor.map_array(Task(config.cpus_per_task), part)
        except (FailedJobError, FailedSubmissionError, subprocess.SubprocessError) as error:
            (submissions_folder(study) / f"{submission.token}.json").unlink(missing_ok=True)
            raise SchedulerError(explain(str(error))) from None
        submission = dataclasses.replace(submission, jobs=sent[0].job_id.partition("_")[0])
        submission.write(study)
        done.append(submission)
    return done


def _submitit_executor(
    study: Path, code: Path, config: SlurmConfig, token: str, before: str | None = None
) -> submitit.SlurmExecutor:
    executor = submitit.SlurmExecutor(
        folder=submissions_folder(study) / token,
        max_num_timeout=MOST_TIMEOUTS,
        python=config.command(),
    )
    parameters: dict[str, Any] = config.parameters()
    defaults: Mapping[str, Any] = {
        # Python looks for packages in the folder where it starts: in the copy.
        "chdir": str(code),
        "requeue": True,
        **({"dependency": f"afterany:{before}"} if before else {}),
    }
    parameters["additional_parameters"] = {**defaults, **parameters["additional_parameters"]}
    setup = [f"export PYTHONPATH={shell(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}"]
    parameters["setup"] = [*setup, *parameters["setup"]]
    executor.update_parameters(job_name=token, array_parallelism=config.max_running, **parameters)
    return executor


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps submitit from printing errors that it raises, too."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # noqa: PTH123
        yield
