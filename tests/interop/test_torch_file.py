"""PyTorch's files give their tensors, and nothing that is in them is run."""

import os
import pickle
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from glowflow.errors import CheckpointError
from glowflow.interop.torch_file import read_torch


def saved(path, content, **how):
    torch.save(content, path / "file.pt", **how)
    return path / "file.pt"


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


class Own(torch.Tensor):
    """A class of one's own."""


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
class TestWhatIsRead:
    def test_all_tensors_by_their_places(self, tmp_path, zipped):
        weights = {"layers.0.weight": torch.randn(3, 4).T, "layers.0.bias": torch.randn(3)}
        path = saved(
            tmp_path,
            {
                "graph": weights,
                "optim": {"state": {0: {"step": 7}}, "param_groups": [{"betas": (0.9, 0.99)}]},
                "criterion": {},
                "global_step": 12,
                "note": "text",
            },
            _use_new_zipfile_serialization=zipped,
        )
        found = read_torch(path)
        assert set(found) == {
            "graph.layers.0.weight",
            "graph.layers.0.bias",
            "optim.state.0.step",
            "optim.param_groups.0.betas",
            "global_step",
        }
        assert torch.equal(found["graph.layers.0.weight"], weights["layers.0.weight"])
        assert found["global_step"] == 12
        assert found["optim.param_groups.0.betas"].shape == (2,)

    def test_a_state_dict_with_parameters(self, tmp_path, zipped):
        module = torch.nn.Linear(2, 3)
        path = saved(
            tmp_path, dict(module.named_parameters()), _use_new_zipfile_serialization=zipped
        )
        found = read_torch(path)
        assert torch.equal(found["weight"], module.weight)
        assert not found["weight"].requires_grad

    def test_its_name_does_not_matter(self, tmp_path, zipped):
        path = saved(tmp_path, {"w": torch.ones(2)}, _use_new_zipfile_serialization=zipped)
        assert set(read_torch(path.rename(tmp_path / "trained.pkg"))) == {"w"}

    def test_code_is_not_run(self, tmp_path, zipped):
        run = Runs(tmp_path / "was-run")
        path = saved(
            tmp_path, {"w": torch.ones(2), "x": run}, _use_new_zipfile_serialization=zipped
        )
        with pytest.raises(CheckpointError, match=r"wants posix.mkdir to be run, and was not read"):
            read_torch(path)
        assert not run.path.exists()

    def test_a_whole_module_is_code_too(self, tmp_path, zipped):
        path = saved(tmp_path, torch.nn.Linear(2, 2), _use_new_zipfile_serialization=zipped)
        with pytest.raises(CheckpointError, match=r"Linear to be run.*state_dict"):
            read_torch(path)

    def test_every_damage_is_a_sentence(self, tmp_path, zipped):
        content = {"w": torch.arange(40.0), "v": {"x": torch.ones(3, 3), "step": 3}}
        path = saved(tmp_path, content, _use_new_zipfile_serialization=zipped)
        whole = path.read_bytes()
        random = np.random.default_rng(0)
        refused = 0
        for _ in range(300):
            damaged = bytearray(whole)
            for _ in range(random.integers(1, 4)):
                damaged[random.integers(len(damaged))] = random.integers(256)
            if random.integers(4) == 0:
                damaged = damaged[: random.integers(len(damaged))]
            path.write_bytes(damaged)
            try:
                read_torch(path)
            except CheckpointError as error:
                refused += 1
                assert "\n" not in str(error)
                assert len(str(error)) < 500
        assert refused > 50


@pytest.mark.parametrize(
    ("tensor", "what"),
    [
        (lambda: torch.eye(3).to_sparse(), "sparse"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "quantised"),
        (lambda: torch.ones(3, dtype=torch.complex64), "complex"),
        (lambda: torch.ones(3).to(torch.float8_e4m3fn), "float8"),
        (lambda: torch.ones(3, device="meta"), "meta"),
        (lambda: torch.ones(1).expand(10**9, 10**3), "a few values that are shown as many"),
    ],
    ids=["sparse", "quantised", "complex", "float8", "meta", "expanded"],
)
def test_tensors_that_are_not_plain_are_named(tmp_path, tensor, what):
    with pytest.raises(CheckpointError, match=rf"the tensor a\.w is .*{what}"):
        read_torch(saved(tmp_path, {"a": {"w": tensor()}}))


def test_a_subclass_is_refused(tmp_path):
    path = saved(tmp_path, {"w": torch.ones(3).as_subclass(Own)})
    with pytest.raises(CheckpointError, match="to be run"):
        read_torch(path)


def test_tensors_on_one_another_are_refused(tmp_path):
    one = torch.ones(1000)
    with pytest.raises(CheckpointError, match="lie on one another: there are more than"):
        read_torch(saved(tmp_path, {f"w{i}": one for i in range(100)}))


def test_a_list_that_is_named_many_times_takes_no_memory(tmp_path):
    many = [True] * 4000
    with pytest.raises(CheckpointError, match="lie on one another"):
        read_torch(saved(tmp_path, {f"w{i}": many for i in range(400)}))


def test_a_file_that_contains_itself(tmp_path):
    content = {"w": torch.ones(2)}
    content["again"] = content
    with pytest.raises(CheckpointError, match="contains itself"):
        read_torch(saved(tmp_path, content))
    many = ["x"]
    for _ in range(20):
        many = [many] * 10
    with pytest.raises(CheckpointError, match="contains itself"):
        read_torch(saved(tmp_path, {"many": many}))


def test_two_entries_of_one_name(tmp_path):
    with pytest.raises(CheckpointError, match=r"two entries a\.b"):
        read_torch(saved(tmp_path, {"a": {"b": torch.ones(2)}, "a.b": torch.ones(2)}))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
def test_a_size_that_lies_takes_no_memory(tmp_path, zipped):
    path = saved(tmp_path, {"w": torch.ones(4)}, _use_new_zipfile_serialization=zipped)
    huge = b"\x8a\x05" + (1 << 33).to_bytes(5, "little")

    def lie(content):
        place = content.index(b"K\x04", content.index(b"FloatStorage"))
        return content[:place] + huge + content[place + 2 :]

    if zipped:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, lie(content) if name.endswith("data.pkl") else content)
    else:
        path.write_bytes(lie(path.read_bytes()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match="is damaged"):
        read_torch(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_an_archive_that_unpacks_to_more(tmp_path):
    path = saved(tmp_path, {"w": torch.zeros(100_000)})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert path.stat().st_size < 10_000
    with pytest.raises(CheckpointError, match="unpacks to more than it is"):
        read_torch(path)


@pytest.mark.parametrize("content", [b"", b"text " * 100, pickle.dumps({"a": 1})])
def test_other_files(tmp_path, content):
    path = tmp_path / "file.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"file\.pt is damaged, or no file of torch\.save"):
        read_torch(path)


def test_no_file(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        read_torch(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="directory"):
        read_torch(Path(tmp_path))
