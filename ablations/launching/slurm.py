"""Runs handed to SLURM, and what they do there; the only importer of submitit."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from ablations.launching.job import Job, record_failure, train_here
from ablations.launching.scheduler import SchedulerError, explain
from ablations.launching.slurm_config import SlurmConfig
from ablations.records import Record, RunFolder, RunOwnershipError, read_json
from ablations.records.submissions import Submission, submissions_folder
from ablations.terminal import echo
from modernize.text import shell

WAIT_SECONDS = 900  # how long a run that has saved waits to be ended, or queued again
OFTEN = 1_000_000  # submitit gives up after so many time-outs


class Task:
    """What a job of the scheduler does: train one run, from wherever it stands.

    Args:
        threads: of each process.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def checkpoint(self, job: Job) -> submitit.helpers.DelayedSubmission:
        """Returns what a job that is queued again shall do, for submitit: the same."""
        return submitit.helpers.DelayedSubmission(self, job)

    def __call__(self, job: Job) -> None:
        """Trains the run; saves on a signal, and has the job queued again."""
        signals: list[int] = []
        queue_again: Any = signal.getsignal(signal.SIGUSR2)  # submitit's

        def take(number: int, _frame: FrameType | None) -> None:
            signals.append(number)

        signal.signal(signal.SIGTERM, take)
        signal.signal(signal.SIGUSR2, take)
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
        # SIGTERM alone may be the start of a preemption, or of the job's end: SLURM will show.
        deadline = time.monotonic() + WAIT_SECONDS
        while signal.SIGUSR2 not in signals and time.monotonic() < deadline:
            time.sleep(0.1)
        if signal.SIGUSR2 not in signals:
            return
        if rank == 0:
            folder.note("preempted", job=environment.job_id)
            queue_again(signal.SIGUSR2, None)  # and ends this process
        time.sleep(WAIT_SECONDS)  # the scheduler ends the others

    def _train(
        self,
        job: Job,
        folder: RunFolder,
        environment: submitit.JobEnvironment,
        signals: Sequence[int],
    ) -> bool:
        """Trains to the end, and returns False; or until a signal comes, and returns True."""
        record = folder.record_or_fault()
        if isinstance(record, Record) and record.settled:
            echo("This run has come to its end before; nothing is left to do.")
            return False
        import torch

        from ablations.data.sampling import Rank
        from ablations.training.device_context import make_device_context, process_group, rendezvous

        torch.set_num_threads(self.threads)
        number, restart = environment.job_id, int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        if environment.global_rank == 0 and folder.prepare(job.run, job=number, restart=restart):
            return False
        rank = Rank(environment.global_rank, environment.num_tasks)
        with contextlib.ExitStack() as stack:
            if rank.world_size > 1:
                # The first process makes the folder its own before the others can write in it.
                host = environment.hostnames[environment.node]
                store = rendezvous(folder.path / f"meeting-{number}-{restart}.json", host, rank)
                device, rank = stack.enter_context(
                    process_group(environment.local_rank, rank, store)
                )
            else:
                device = "cuda:0" if torch.cuda.is_available() else "cpu"
            context = make_device_context(device, job.compute, rank)
            ended = train_here(job, folder, context, self.threads, lambda: not signals)
        if rank.rank == 0:
            for path in folder.path.glob("meeting-*.json"):
                path.unlink(missing_ok=True)
        return ended is None


def _redirect(path: Path) -> None:
    """Lets this process's output, of C libraries too, go into a file."""
    with path.open("a", encoding="utf-8") as log:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]  # plain files, here


def script(study: Path, code: Path, jobs: Sequence[Job], slurm_config: SlurmConfig) -> str:
    """Returns the text that would be handed to sbatch for these runs (the first array of them)."""
    executor = _executor(study, code, slurm_config, token=f"{study.name}-TOKEN")
    if len(jobs) > 1:
        executor.parameters["map_count"] = min(len(jobs), slurm_config.max_array_size)
    return executor._make_submission_file_text(executor._submitit_command_str, "TOKEN")


def submit(
    study: Path, code: Path, jobs: Sequence[Job], slurm_config: SlurmConfig
) -> list[Submission]:
    """Hands runs to SLURM: one array, or several in a row where one must not be so large.

    Args:
        study: the study's folder, which all nodes see.
        code: the copy of the program that the jobs shall run.
        jobs: the runs.
        slurm_config: how the cluster wants to be asked.

    Raises:
        SchedulerError: with SLURM's message and the key of the SLURM config that it is about.
    """
    done: list[Submission] = []
    frozen = read_json(code / "frozen.json") or {}
    for start in range(0, len(jobs), slurm_config.max_array_size):
        part = jobs[start : start + slurm_config.max_array_size]
        submission = Submission(
            token=f"{study.name}-{uuid.uuid4().hex[:8]}",
            runs=[job.folder.name for job in part],
            jobs=None,
            code=str(code),
            commit=frozen.get("commit"),
            dirty=frozen.get("dirty"),
            submitted=time.time(),
        )
        # Written before the call, too: whoever dies in between has still said what waits there.
        submission.write(study)
        before = done[-1].jobs if done else None
        executor = _executor(study, code, slurm_config, submission.token, before)
        for job in part:
            RunFolder(job.folder).describe(job.run)
        try:
            with _quiet(), submitit.helpers.clean_env():
                sent = executor.map_array(Task(slurm_config.cpus_per_task), part)
        except (FailedJobError, FailedSubmissionError, subprocess.SubprocessError) as error:
            (submissions_folder(study) / f"{submission.token}.json").unlink(missing_ok=True)
            raise SchedulerError(explain(str(error))) from None
        submission = dataclasses.replace(submission, jobs=sent[0].job_id.partition("_")[0])
        submission.write(study)
        done.append(submission)
    return done


def _executor(
    study: Path, code: Path, slurm_config: SlurmConfig, token: str, before: str | None = None
) -> submitit.SlurmExecutor:
    executor = submitit.SlurmExecutor(
        folder=submissions_folder(study) / token,
        max_num_timeout=OFTEN,
        python=slurm_config.command(),
    )
    parameters: dict[str, Any] = slurm_config.parameters()
    more: Mapping[str, Any] = {
        # Python looks for packages where it is started: in the copy.
        "chdir": str(code),
        "requeue": True,
        **({"dependency": f"afterany:{before}"} if before else {}),
    }
    parameters["additional_parameters"] = {**more, **parameters["additional_parameters"]}
    setup = [f"export PYTHONPATH={shell(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}"]
    parameters["setup"] = [*setup, *parameters["setup"]]
    executor.update_parameters(
        job_name=token, array_parallelism=slurm_config.max_running, **parameters
    )
    return executor


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps submitit from printing what is raised anyway."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # noqa: PTH123
        yield
