"""Arrays by name: .npz, HDF5 and Zarr, streamed, with what each sample is given."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from glowflow import Condition, DataConfig, InputError
from glowflow.data.formats.named_arrays import open_arrays
from glowflow.data.loader import batches
from glowflow.data.open import open_images, open_splits

COUNT = 24


def arrays(dtype=np.float64):
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(size=(COUNT, 2, 4, 4)).astype(dtype),
        "y": rng.normal(size=(COUNT, 2, 4)).astype(dtype),
        "group/theta": rng.normal(size=(COUNT, 3)).astype(dtype),
        "amplitude": rng.normal(size=COUNT).astype(dtype),
        "kind": np.arange(COUNT) % 3,
    }


def write(path, some, **how):
    if path.suffix == ".npz":
        (np.savez_compressed if how.get("chunks") else np.savez)(path, **some)
    elif path.suffix == ".h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name, array in some.items():
                chunks = (5, *array.shape[1:]) if how.get("chunks") else None
                file.create_dataset(name, data=array, chunks=chunks)
    else:
        zarr = pytest.importorskip("zarr")
        group = zarr.open_group(str(path), mode="w")
        for name, array in some.items():
            group.create_array(name, data=array, chunks=(5, *array.shape[1:]))
    return str(path)


GIVEN = "y,group/theta,amplitude,kind"


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".zarr"])
@pytest.mark.parametrize("chunks", [False, True])
def test_samples_go_with_what_they_are_given(tmp_path, suffix, chunks):
    known = arrays()
    data = write(tmp_path / f"data{suffix}", known, chunks=chunks)
    config = DataConfig(data=data, target="x", condition=GIVEN)
    splits = open_splits(config, cache=tmp_path / "cache", progress=False)
    assert splits.train.given == (
        Condition(name="y", kind="field", shape=(1, 2, 4)),
        Condition(name="group/theta", kind="vector", shape=(3,)),
        Condition(name="amplitude", kind="vector", shape=(1,)),
        Condition(name="kind", kind="class", shape=(3,)),
    )
    seen = 0
    for part in (splits.train, splits.valid, splits.test):
        assert part.images.dtype == np.float32 and part.conditions.dtype == np.float32
        for name, image, row in zip(part.names, part.images, part.conditions, strict=True):
            i = int(name)
            expected = [known[n][i].ravel() for n in GIVEN.split(",")]
            assert np.array_equal(row, np.concatenate(expected).astype(np.float32))
            assert np.array_equal(image, known["x"][i].astype(np.float32))
            seen += 1
    assert seen == COUNT
    (first, rows), *_ = batches(splits.train, 3, seed=0, epoch=0)
    assert first.shape == (3, 2, 4, 4) and rows.shape == (3, 8 + 3 + 1 + 1)
    assert splits.source.startswith(f"data{suffix}: x given y, group/theta, amplitude, kind")


def test_other_conditions_are_other_data(tmp_path):
    config = DataConfig(data=write(tmp_path / "data.npz", arrays()), target="x", condition="kind")

    def opened(**changes):
        changed = replace(config, **changes)
        return open_images(changed, cache=tmp_path / "cache", progress=False)

    given, others, none = opened(), opened(condition="amplitude"), opened(condition=None)
    assert given.checksum != others.checksum != none.checksum
    assert not np.array_equal(given.data.contents, others.data.contents)
    assert none.data.conditions is None and none.data.given == ()
    assert open_images(config, cache=tmp_path / "cache", progress=False).data.given


@pytest.mark.parametrize("dtype", ["float16", ">f8", "float32"])
def test_any_float_type(tmp_path, dtype):
    known = {"x": arrays()["x"].astype(dtype)}
    data = write(tmp_path / "data.h5", known)
    images = open_images(DataConfig(data=data), cache=tmp_path / "cache", progress=False)
    assert np.array_equal(images.data.images, known["x"].astype(np.float32))


def test_a_file_of_which_nothing_is_named(tmp_path):
    data = write(tmp_path / "data.h5", arrays())
    with pytest.raises(InputError, match=r"several arrays \(.*x float64 \(24, 2, 4, 4\).*--target"):
        open_splits(DataConfig(data=data), cache=tmp_path / "cache", progress=False)


def refused(tmp_path, some, **config):
    data = write(tmp_path / "data.npz", some)
    with pytest.raises(InputError) as caught:
        open_splits(
            DataConfig(data=data, **{"target": "x", **config}),
            cache=tmp_path / "cache",
            progress=False,
        )
    assert not list((tmp_path / "cache").rglob("*.npy"))
    return str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e60])
@pytest.mark.parametrize(("name", "place"), [("x", (7, 1, 2, 3)), ("y", (7, 1, 3))])
def test_missing_values_are_refused_with_their_place(tmp_path, value, name, place):
    some = arrays()
    some[name][place] = value
    said = refused(tmp_path, some, condition="y")
    assert f"array {name} " in said and f"in sample 7 at {place[1:]}" in said


@pytest.mark.parametrize("suffix", [".h5", ".zarr", ".npz", ".npy"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_missing_values_of_half_precision_are_refused_in_every_kind_of_file(
    tmp_path, suffix, value
):
    x = arrays(np.float16)["x"]
    x[7, 1, 2, 3] = value
    path = tmp_path / f"data{suffix}"
    np.save(path, x) if suffix == ".npy" else write(path, {"x": x}, chunks=True)
    config = DataConfig(data=str(path), layout="NCHW")
    with pytest.raises(InputError, match=r"(sample|image) 7 at \(1, 2, 3\)"):
        open_splits(config, cache=tmp_path / "cache", progress=False)


def test_missing_values_may_be_marked(tmp_path):
    some = arrays()
    some["y"][7, 1, 3] = np.nan
    data = write(tmp_path / "data.npz", some)
    config = DataConfig(data=data, target="x", condition="y", missing="mask")
    images = open_images(config, cache=tmp_path / "other", progress=False)
    assert np.argwhere(np.isnan(images.data.conditions)).tolist() == [[7, 7]]
    some["x"][3] = np.nan
    assert "array x " in refused(tmp_path, some, condition="y", missing="mask")
    some = arrays()
    some["y"][2, 0, 0] = np.inf
    assert "array y " in refused(tmp_path, some, condition="y", missing="mask")


def test_what_cannot_be_used(tmp_path):
    for changes, config, expected in (
        ({}, {"target": "z"}, "no array 'z' for --target: it has x float64"),
        ({}, {"condition": "y,w"}, "no array 'w' for --condition"),
        ({}, {"condition": "x"}, "'x' is the target"),
        ({"y": np.zeros((9, 4, 4))}, {"condition": "y"}, "24 samples of x and 9 of y"),
        ({"y": np.zeros((24, 1, 2, 3, 4))}, {"condition": "y"}, "a condition is"),
        ({"kind": np.arange(24) - 1}, {"condition": "kind"}, "from -1 to 22"),
        ({"x": np.zeros((24, 1, 4, 4, 4))}, {"grid": 2}, "1x4x4x4, which is no grid of 2"),
        ({"x": np.zeros((24, 4))}, {"grid": 3}, "samples of 4, which is no grid of 3"),
        ({"x": np.zeros(24)}, {}, "samples of no axis, which is no grid of 2"),
        (
            {"x": np.zeros((24, 8), dtype=np.uint8)},
            {},
            "uint8 on a grid of 8, and only",
        ),
        (
            {"x": np.zeros((24, 8)), "y": np.zeros((24, 1, 1, 4))},
            {"condition": "y"},
            "or (N, C, L)",
        ),
        ({"x": np.zeros((24, 4, 4), dtype=np.int32)}, {}, "give floats, or uint8"),
        ({}, {"size": (8, 8)}, "leave --size and --channels out"),
    ):
        assert expected in refused(tmp_path, {**arrays(), **changes}, **config)


def test_which_axes_are_the_grid(tmp_path):
    some = {
        "line": np.zeros((24, 8)),
        "lines": np.zeros((24, 2, 8)),
        "block": np.zeros((24, 4, 2, 8)),
        "blocks": np.zeros((24, 3, 4, 2, 8)),
    }
    path = write(tmp_path / "data.npz", some)
    for target, grid, shape in (
        ("line", None, (1, 8)), ("line", 1, (1, 8)), ("lines", None, (1, 2, 8)),
        ("lines", 1, (2, 8)), ("lines", 2, (1, 2, 8)), ("block", None, (4, 2, 8)),
        ("block", 3, (1, 4, 2, 8)), ("blocks", None, (3, 4, 2, 8)),
    ):  # fmt: skip
        for data, named in ((path, target), (str(tmp_path / f"{target}.npy"), None)):
            if named is None:
                np.save(data, some[target])
            config = DataConfig(data=data, target=named, grid=grid)
            if named is None and (target, grid) == ("block", None):
                config = replace(config, layout="NCHW")  # or 8 channels, as NHWC
            read = open_images(config, cache=tmp_path / "cache", progress=False)
            assert read.data.image_shape == shape


def test_conditions_are_on_a_grid_of_as_many_axes(tmp_path, capsys):
    some = {
        "x": np.zeros((24, 8)),
        "y": np.zeros((24, 2, 4)),
        "v": np.zeros((24, 8)),
        "block": np.zeros((24, 1, 4, 4, 4)),
        "b": np.zeros((24, 2, 2, 4)),
    }
    path = write(tmp_path / "data.npz", some)

    def given(**config):
        read = open_images(DataConfig(data=path, **config), cache=tmp_path / "cache")
        return [(c.kind, c.shape) for c in read.data.given]

    assert given(target="x", condition="y,v") == [("field", (2, 4)), ("vector", (8,))]
    assert "v of data.npz is read as a vector" in capsys.readouterr().err.replace("\n", " ")
    assert given(target="block", condition="b") == [("field", (1, 2, 2, 4))]


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_a_damaged_file(tmp_path, suffix):
    path = tmp_path / f"data{suffix}"
    write(path, arrays())
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match="Cannot read"):
        open_splits(
            DataConfig(data=str(path), target="x"), cache=tmp_path / "cache", progress=False
        )


@pytest.mark.parametrize("flag", ["condition", "target"])
def test_an_array_without_a_name_is_given_nothing(tmp_path, flag):
    np.save(tmp_path / "x.npy", arrays()["x"])
    config = DataConfig(data=str(tmp_path / "x.npy"), **{flag: "y"})
    with pytest.raises(InputError, match=f"no arrays by name for --{flag} y"):
        open_splits(config, cache=tmp_path / "cache", progress=False)
    with pytest.raises(InputError, match="name an array, or leave it out"):
        replace(config, **{flag: " , "})


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_one_sample_at_a_time_is_in_memory(tmp_path, suffix):
    """16 MiB on the disk, 64 KiB a sample."""
    path = tmp_path / f"large{suffix}"
    write(path, {"x": np.zeros((256, 1, 128, 128), np.float32)})
    tracemalloc.start()
    array = open_arrays(path)["x"]
    assert all(array.read(index).sum() == 0 for index in range(0, 256, 5))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**21


def test_fortran_order_and_going_back(tmp_path):
    some = {"x": np.asfortranarray(arrays()["x"]), "y": arrays()["y"]}
    np.savez(tmp_path / "data.npz", **some)
    found = open_arrays(tmp_path / "data.npz")
    for name, array in some.items():
        for index in (5, 2, 9):
            assert np.array_equal(found[name].read(index), array[index])
