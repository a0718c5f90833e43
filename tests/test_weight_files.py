"""Files of weights: our own networks, both formats, and all that can be wrong with a file."""

import argparse
import os
import pickle
import resource

import pytest
import torch
from safetensors.torch import save_file

from modernize.errors import UsageError, WeightsError
from modernize.network import Network
from modernize.steps import STEPS, spec_of
from modernize.weight_files import UnwritableFileError
from modernize.weights import load, read, write

SMALL = {"depths": (1, 1, 2, 1), "width": 4, "num_classes": 3}


def small(step="downsample"):
    torch.manual_seed(0)
    return Network(spec_of(step, **SMALL))


@pytest.mark.integration
@pytest.mark.parametrize("step", [step.key for step in STEPS])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_every_step_comes_back_from_its_file(step, suffix, tmp_path):
    network = small(step)
    write(network, tmp_path / f"ours{suffix}", "ours")
    again = load(tmp_path / f"ours{suffix}")
    assert again.spec == network.spec
    assert again.training
    expected = network.state_dict()
    assert again.state_dict().keys() == expected.keys()
    assert all(torch.equal(t, expected[name]) for name, t in again.state_dict().items())


def test_a_plain_state_dict_of_ours_needs_its_spec(tmp_path):
    network = small("ln")
    torch.save(network.state_dict(), tmp_path / "plain.pt")
    with pytest.raises(WeightsError, match=r"plain\.pt: .*NetSpec"):
        read(tmp_path / "plain.pt")
    weights = read(tmp_path / "plain.pt", network.spec)
    assert torch.equal(weights.tensors["head.weight"], network.head.weight)
    with pytest.raises(WeightsError, match=r"missing: stages\.1\.downsample\.norm\.weight"):
        read(tmp_path / "plain.pt", spec_of("downsample", **SMALL))


def test_the_average_beside_the_weights(tmp_path):
    network, average = small(), small()
    torch.nn.init.ones_(average.head.weight)
    spec = network.spec.to_dict()
    both = {"network": network.state_dict(), "ema": average.state_dict(), "spec": spec}
    torch.save(both, tmp_path / "both.pt")
    assert torch.equal(load(tmp_path / "both.pt").head.weight, network.head.weight)
    assert torch.equal(load(tmp_path / "both.pt", ema=True).head.weight, average.head.weight)
    torch.save({**both, "ema": None}, tmp_path / "one.pt")
    write(network, tmp_path / "one.safetensors", "ours")
    for name in ("one.pt", "one.safetensors"):
        with pytest.raises(WeightsError, match="no moving average"):
            read(tmp_path / name, ema=True)


def test_the_old_format_is_read_as_well(tmp_path):
    network = small()
    state = {"state_dict": network.state_dict()}
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    again = load(tmp_path / "old.pth", network.spec)
    assert torch.equal(again.head.weight, network.head.weight)


def test_a_channels_last_network_is_written_in_the_usual_order(tmp_path):
    network = small().to(memory_format=torch.channels_last)
    for name in ("a.pt", "a.safetensors"):
        write(network, tmp_path / name, "timm")
        weight = read(tmp_path / name).tensors["stem.conv.weight"]
        assert weight.is_contiguous()
        assert torch.equal(weight, network.stem[0].weight)


def test_a_file_may_be_read_by_those_who_may_read_any_new_one(tmp_path):
    (tmp_path / "any").touch()
    for name in ("a.pt", "a.safetensors"):
        write(small(), tmp_path / name, "ours")
        assert (tmp_path / name).stat().st_mode == (tmp_path / "any").stat().st_mode


def test_a_part_of_a_larger_tensor_is_written_alone(tmp_path):
    network = small()
    many = torch.zeros(100_000, 3)
    network.head.bias = torch.nn.Parameter(many[5])
    write(network, tmp_path / "part.pt", "ours")
    assert (tmp_path / "part.pt").stat().st_size < 200_000  # and not 1.2 million more


def test_a_changed_tensor_leaves_the_file_as_it_is(tmp_path):
    for name in ("a.pt", "a.safetensors"):
        path = tmp_path / name
        write(small(), path, "timm")
        before = path.read_bytes()
        read(path).tensors["head.weight"].zero_()
        assert path.read_bytes() == before


class Code:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("how", ["torch", "old", "pickle"])
def test_code_in_a_file_does_not_run(how, tmp_path):
    state, path = {"conv1.weight": Code(tmp_path / "ran")}, tmp_path / "hostile.pth"
    if how == "pickle":
        path.write_bytes(pickle.dumps(state, protocol=2))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(WeightsError, match=r"hostile\.pth") as error:
        read(path)
    assert not (tmp_path / "ran").exists()
    assert "only tensors and plain values" in str(error.value)
    assert "posix.system" in str(error.value)


def test_objects_in_a_file_are_named(tmp_path):
    state = {"model": small().state_dict(), "args": argparse.Namespace(lr=1.0)}
    torch.save(state, tmp_path / "training.pth")
    with pytest.raises(WeightsError, match=r"argparse\.Namespace.*state dict"):
        read(tmp_path / "training.pth")


@pytest.mark.parametrize("name", ["a.pt", "old.pt", "a.safetensors"])
@pytest.mark.parametrize("part", [0.0, 0.0005, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_refused(name, part, tmp_path):
    path = tmp_path / name
    if name == "old.pt":
        torch.save(small().state_dict(), path, _use_new_zipfile_serialization=False)
    else:
        write(small(), path, "timm")
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(WeightsError, match=rf"{name} .*bytes") as error:
        read(path)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "content", [b"hello world\n" * 9, b"\x89PNG\r\n" + bytes(99), b"12345678{"]
)
def test_what_is_no_checkpoint_is_refused(content, tmp_path):
    (tmp_path / "photo.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"another file"):
        read(tmp_path / "photo.pth")


@pytest.mark.parametrize("value", [[1, 2], {"epoch": 3}, {}, {"model": {"a": 1}}, torch.zeros(3)])
def test_a_file_without_a_state_dict_is_refused(value, tmp_path):
    torch.save(value, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="state dict"):
        read(tmp_path / "other.pth")


def test_a_forged_description_is_refused(tmp_path):
    state = small().state_dict()
    for spec in ({"depths": "many"}, {"heads": 3}, [1], 7):
        torch.save({"network": state, "spec": spec}, tmp_path / "forged.pt")
        with pytest.raises(WeightsError, match=r"does not describe"):
            read(tmp_path / "forged.pt")
    save_file(state, tmp_path / "forged.safetensors", {"spec": "{"})
    with pytest.raises(WeightsError, match=r"bytes; "):
        read(tmp_path / "forged.safetensors")


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="is a folder; name the file"):
        read(tmp_path)
    with pytest.raises(WeightsError, match=r"there is no file .*missing\.pth"):
        read(tmp_path / "missing.pth")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.onnx", r"\.safetensors, \.pth, \.pt"),
        ("nowhere/out.pth", "there is no folder .*nowhere"),
        ("folder.pt", "is a folder"),
    ],
)
def test_where_nothing_can_be_written(name, message, tmp_path):
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(UsageError, match=message):
        write(small(), tmp_path / name, "ours")


@pytest.mark.parametrize("name", ["out.pth", "out.safetensors"])
def test_a_full_disk_leaves_what_was_there(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"of before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(UnwritableFileError, match=f"cannot write .*{name}: "):
            write(small(), path, "ours")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"of before"
    assert list(tmp_path.iterdir()) == [path]
