"""A run's identity, its folder and its record; the only reader and writer of ``results/``.

A study is a folder of runs::

    results/<study>/study.json          what is compared: preset, regime, images, variants, seeds
    results/<study>/study.yaml          the user's study file, if there is one
    results/<study>/layers/             custom layers, one file per digest
    results/<study>/runs/<run>/         config.json, record.json, metrics.jsonl, progress.json, ...
    results/<study>/submissions/        runs handed to SLURM, and copies of the program
    results/<study>/runs.jsonl          the archive: all runs without their weights, on request
    results/<study>/examples/           the archive's validation images, of two runs
    results/<study>/summary.csv         made from the records at any time

Every file is written atomically. A damaged file costs only its own information: it is ignored, and
noted in the study's ``faults``. No torch here.
"""

from ablations.records.archive import ARCHIVE
from ablations.records.files import (
    DamagedError,
    Faults,
    ResultsError,
    make_folder,
    read_json,
    read_or_note,
    write_bytes,
    write_json,
    write_text,
)
from ablations.records.heartbeat import ProcessState
from ablations.records.manifest import differing
from ablations.records.provenance import (
    COMMAND,
    PROGRAM,
    REPOSITORY,
    SNAPSHOT,
    commit_of,
    provenance,
)
from ablations.records.record import Record, Status
from ablations.records.run import WEIGHTS, Run, RunFolder, RunOwnershipError
from ablations.records.status import RunStatus, last_lines, read_statuses
from ablations.records.study import (
    STUDY_FILE,
    Study,
    open_study,
    study_folder,
    study_names,
)

__all__ = [
    "ARCHIVE",
    "COMMAND",
    "PROGRAM",
    "REPOSITORY",
    "SNAPSHOT",
    "STUDY_FILE",
    "WEIGHTS",
    "DamagedError",
    "Faults",
    "ProcessState",
    "Record",
    "ResultsError",
    "Run",
    "RunFolder",
    "RunOwnershipError",
    "RunStatus",
    "Status",
    "Study",
    "commit_of",
    "differing",
    "last_lines",
    "make_folder",
    "open_study",
    "provenance",
    "read_json",
    "read_or_note",
    "read_statuses",
    "study_folder",
    "study_names",
    "write_bytes",
    "write_json",
    "write_text",
]
