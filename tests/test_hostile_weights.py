"""Files of weights that claim more than they hold, are damaged, or come from programs that wrap."""

import collections
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import PATIENCE
from safetensors.torch import load_file, save_file

from modernize.errors import WeightsError
from modernize.network import Network
from modernize.steps import spec_of
from modernize.weights import from_state_dict, read, write

SMALL: dict[str, Any] = {"depths": (1, 1, 1, 1), "width": 4, "num_classes": 3}
SPEC = spec_of("downsample", **SMALL)


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return Network(SPEC).state_dict()


READER = """
import resource, sys
from modernize.errors import WeightsError
from modernize.network import Network
from modernize.weights import read
import modernize.weight_files
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))
for path in sys.argv[1:]:
    try:
        read(path)
        print("is read")
    except WeightsError as error:
        print(str(error).replace("\\n", " "))
"""


def refused(*paths: Path) -> list[str]:
    """What is said of each file, by a process that may take half a GiB more than it has."""
    command = [sys.executable, "-c", READER, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == len(paths)
    assert all(path.name in text for path, text in zip(paths, said, strict=True)), said
    said = [text.replace(str(path), "") for path, text in zip(paths, said, strict=True)]
    assert not any(word in text for text in said for word in ("Memory", "memory", "alloc")), said
    return said


def rezip(path: Path, change: Any, method: int = zipfile.ZIP_STORED) -> None:
    """Writes a zip file again, each entry changed."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))


# What claims too much


@pytest.mark.integration
def test_compressed_entries_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "deflated.pt"
    torch.save(state() | {"huge": torch.zeros(1)}, path)
    rezip(path, lambda _, content: content, zipfile.ZIP_DEFLATED)
    assert "compressed" in refused(path)[0]


class Calls:
    """Is pickled as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


CLAIMS: dict[str, Any] = {
    "bytearray": lambda: {"a": Calls(bytearray, 2**34)},
    "tensor": lambda: {"a": Calls(torch.Tensor, 2**16, 2**16)},
    "sparse": lambda: {"a": torch.zeros(2).to_sparse()},
    "expanded": lambda: state() | {"head.weight": torch.zeros(1).expand(2**34)},
    "strided": lambda: (
        state() | {"head.weight": torch.zeros(2**17).as_strided((2**16, 2**16), (1, 1))}
    ),
}


@pytest.mark.integration
def test_small_files_take_little_memory(tmp_path: Path) -> None:
    paths = []
    for claim, make in CLAIMS.items():
        for zipped in (True, False):
            paths.append(tmp_path / f"{claim}-{zipped}.pt")
            content = {"network": make(), "spec": SPEC.to_dict()}
            torch.save(content, paths[-1], _use_new_zipfile_serialization=zipped)
    refused(*paths)


@pytest.mark.integration
def test_a_storage_that_claims_more_than_the_old_format_has(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save({"a": torch.zeros(77_777)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    number = b"J" + (77_777).to_bytes(4, "little")  # a pickle's four bytes
    assert content.count(number) >= 1
    path.write_bytes(content.replace(number, b"J" + (2**31 - 1).to_bytes(4, "little")))
    assert "bytes" in refused(path)[0] or "memory" in refused(path)[0]


@pytest.mark.integration
def test_pickles_that_name_large_numbers(tmp_path: Path) -> None:
    large = (2**35).to_bytes(8, "little")
    paths = []
    for number, code in enumerate((b"\x96" + large, b"\x8e" + large, b"K\x00r\xff\xff\xff\x7f")):
        paths.append(tmp_path / f"{number}.pt")  # a bytearray, bytes, a place in the memory
        torch.save(state(), paths[-1])
        rezip(paths[-1], lambda name, old, code=code: b"\x80\x05" + code if "pkl" in name else old)
    refused(*paths)


def test_tensors_that_share_their_memory_are_refused() -> None:
    given = state()
    weight = given["stages.3.blocks.0.branch.expand.weight"]
    given["stages.3.blocks.0.branch.project.weight"] = weight.view(
        given["stages.3.blocks.0.branch.project.weight"].shape
    )
    with pytest.raises(WeightsError) as error:
        from_state_dict(given, SPEC)
    assert "stages.3.blocks.0.branch.project.weight shares its" in str(error.value)
    whole = torch.cat([value.flatten() for value in given.values()])  # parts of one are well
    parts = whole.split([value.numel() for value in given.values()])
    flat = {name: part.view(given[name].shape) for name, part in zip(given, parts, strict=True)}
    assert from_state_dict(flat, SPEC).spec == SPEC


ABSURD: dict[str, dict[str, Any]] = {
    "depth": {"depths": [10**9, 1, 1, 1]},
    "stages": {"depths": [1] * 5000},
    "width": {"width": 10**9},
    "width of many digits": {"width": 10**5000},
    "kernel": {"kernel_size": 10**12 + 1},
    "classes": {"num_classes": 10**15},
    "channels": {"in_channels": 10**15},
    "no number": {"layer_scale": 10**400},
    "nan": {"drop_path": float("nan")},
    "a long name": {"a" * 10**6: 1},
    "a long value": {"stem": "x" * 10**6},
}


@pytest.mark.integration
def test_absurd_descriptions_are_answered_at_once(tmp_path: Path) -> None:
    paths = []
    for name, changes in ABSURD.items():
        paths.append(tmp_path / f"{name}.pt")
        torch.save({"network": state(), "spec": SPEC.to_dict() | changes}, paths[-1])
    given = {f"layer{i}.{9**6}.conv1.weight": torch.zeros(1).expand(2**40, 1) for i in range(1, 5)}
    given["conv1.weight"] = torch.zeros(1).expand(2**40, 3, 7, 7)
    paths.append(tmp_path / "names and shapes.pt")
    torch.save(given, paths[-1])
    assert all(len(text) < 2000 for text in refused(*paths))


@pytest.mark.integration
def test_headers_of_safetensors_that_claim_too_much(tmp_path: Path) -> None:
    lengths = (2**23 + 1, 2**40, 2**64 - 1)
    paths = [tmp_path / f"{length}.safetensors" for length in lengths]
    for length, path in zip(lengths, paths, strict=True):
        with path.open("wb") as file:
            file.write(length.to_bytes(8, "little") + b'{"')
            file.truncate(2**24)
    for length, text in zip(lengths, refused(*paths), strict=True):
        assert f"{length:,} bytes" in text


# What is damaged


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_a_flipped_bit_in_our_files_is_noticed(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write(Network(SPEC), path, "ours")
    content = path.read_bytes()
    weight = read(path).tensors["stages.3.blocks.0.branch.expand.weight"].numpy().tobytes()
    flip(path, content.index(weight) + len(weight) // 2)
    with pytest.raises(WeightsError, match="checksum"):
        read(path)


def test_safetensors_without_our_checksum_are_read(tmp_path: Path) -> None:
    write(Network(SPEC), tmp_path / "ours.safetensors", "timm")
    save_file(load_file(tmp_path / "ours.safetensors"), tmp_path / "theirs.safetensors")
    assert read(tmp_path / "theirs.safetensors").spec.width == SPEC.width


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e39])
def test_values_that_are_no_numbers_are_said(value: float) -> None:
    given = state()
    given["head.weight"] = given["head.weight"].double()
    given["head.weight"][0, :2] = value
    with pytest.raises(WeightsError, match=r"head\.weight has 2 values"):
        from_state_dict(given, SPEC)


# What wrapping programs add


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "network.", "net.", "module._orig_mod.",
               "_orig_mod.module.", "model.module.", "_fsdp_wrapped_module."],
)  # fmt: skip
def test_what_is_put_before_all_names_is_left_out(prefix: str) -> None:
    weights = from_state_dict({prefix + name: value for name, value in state().items()}, SPEC)
    assert weights.tensors.keys() == state().keys()
    half = {(prefix if i % 2 else "") + name: v for i, (name, v) in enumerate(state().items())}
    if "_" not in prefix:
        with pytest.raises(WeightsError, match=f"unexpected: {prefix}"):
            from_state_dict(half, SPEC)


def test_what_is_put_between_names_is_left_out() -> None:
    given = {name.replace("stages.", "stages._orig_mod."): v for name, v in state().items()}
    assert from_state_dict(given, SPEC).tensors.keys() == state().keys()
    with pytest.raises(WeightsError, match="two tensors"):
        from_state_dict(given | state(), SPEC)


def test_the_average_that_torch_makes(tmp_path: Path) -> None:
    network = Network(SPEC)
    average = torch.optim.swa_utils.AveragedModel(torch.nn.DataParallel(network))
    both = {"model": network.state_dict(), "model_ema": average.state_dict(), "epoch": 3}
    torch.save(both, tmp_path / "a.pth")
    assert read(tmp_path / "a.pth", SPEC, ema=True).tensors.keys() == state().keys()


@pytest.mark.parametrize("keys", [("state_dict",), ("model", "state_dict"), ("module",), ("net",),
                                  ("model_state_dict",), ("state_dict", "model")])  # fmt: skip
def test_a_state_dict_under_other_keys(keys: tuple[str, ...], tmp_path: Path) -> None:
    content: Any = state()
    for key in keys:
        content = {key: content, "epoch": 1, "notes": collections.OrderedDict(a=[1, "x"])}
    torch.save(content, tmp_path / "a.pth")
    assert read(tmp_path / "a.pth", SPEC).tensors.keys() == state().keys()


def test_an_average_alone_is_pointed_out(tmp_path: Path) -> None:
    torch.save({"state_dict_ema": state(), "epoch": 1}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="with ema"):
        read(tmp_path / "a.pth", SPEC)
    assert read(tmp_path / "a.pth", SPEC, ema=True).spec == SPEC


def test_the_message_for_foreign_weights_is_short() -> None:
    other = Network(spec_of("ln", **SMALL | {"depths": (3, 3, 9, 3)})).state_dict()
    with pytest.raises(WeightsError) as error:
        from_state_dict(other, SPEC)
    text = str(error.value)
    assert len(text.splitlines()) <= 20
    assert " more" in text


def test_plain_values_of_all_kinds_beside_the_weights_are_read(tmp_path: Path) -> None:
    beside = {"set": {1, 2}, "bytes": b"\x00\xff" * 100, "complex": 1j, "size": torch.Size([1]),
              "counter": collections.Counter("aab"), "dtype": torch.float16, "none": None,
              "device": torch.device("cpu"), "random": torch.get_rng_state(), "big": 10**30,
              "parameter": torch.nn.Parameter(torch.zeros(2))}  # fmt: skip
    for zipped in (True, False):
        torch.save(
            {"model": state(), **beside}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped
        )
        assert read(tmp_path / "a.pt", SPEC).spec == SPEC
