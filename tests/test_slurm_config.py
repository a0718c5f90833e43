from pathlib import Path

import pytest

from ablations.launching.slurm_config import EXAMPLE, VARIABLE, SlurmConfig, load_slurm_config
from modernize.errors import UsageError


def write(folder: Path, *lines: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text("\n".join([*lines, ""]))
    return path


def test_the_example_has_every_key() -> None:
    slurm_config = load_slurm_config(EXAMPLE)
    assert slurm_config.model_fields_set == set(SlurmConfig.model_fields)
    assert slurm_config.processes == 32
    parameters = slurm_config.parameters()
    assert parameters["additional_parameters"] == {
        "gpus-per-node": "8",
        "mem-per-gpu": "60G",
        "exclude": "badnode[1-2]",
    }
    assert "--cpus-per-task=10" in parameters["srun_args"]


def test_every_fault_is_named_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "partitoin: gpu", "nodes: 0", "memory: lots", "memory_per: gpu")
    with pytest.raises(UsageError) as raised:
        load_slurm_config(path)
    message = str(raised.value)
    assert "mine.yaml, line 1: partitoin: unknown key 'partitoin'. Did you mean" in message
    assert "mine.yaml, line 2: nodes: Input should be greater than 0, not 0" in message
    assert "line 3: memory" in message


@pytest.mark.parametrize("line", ["python: ''", 'partition: "a\\nb"'])
def test_a_name_is_one_line_of_text(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsageError, match=f"line 1: {line.partition(':')[0]}"):
        load_slurm_config(write(tmp_path, line))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["gpus_per_node: 4", "tasks_per_node: 2"], "one process per GPU"),
        (["memory: 4G", "memory_per: gpu"], "memory_per gpu needs gpus_per_node"),
        (["time_limit_minutes: 1", "warning_seconds: 60"], "below the time limit, 60"),
    ],
)
def test_keys_that_do_not_fit_together(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_slurm_config(write(tmp_path, *lines))


@pytest.mark.parametrize(
    ("way", "option"),
    [
        ("gpus-per-node", {"gpus-per-node": "h100:8"}),
        ("gpus-per-task", {"gpus-per-task": "h100:1"}),
        ("gres", {"gres": "gpu:h100:8"}),
    ],
)
def test_gpus_as_the_cluster_counts_them(tmp_path: Path, way: str, option: dict[str, str]) -> None:
    slurm_config = load_slurm_config(
        write(tmp_path, "gpus_per_node: 8", f"gpus_as: {way}", "gpu_type: h100")
    )
    assert slurm_config.parameters()["additional_parameters"] == option
    assert slurm_config.parameters()["ntasks_per_node"] == 8


def test_where_the_config_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert load_slurm_config(None) == SlurmConfig()
    monkeypatch.setenv(VARIABLE, str(write(tmp_path, "partition: gpu")))
    assert load_slurm_config(None).partition == "gpu"
    with pytest.raises(UsageError, match=r"nowhere\.yaml.*example\.yaml"):
        load_slurm_config(Path("nowhere.yaml"))
