"""CelebA and CelebA-HQ as folders, in their official layouts."""

import numpy as np
import pytest
from PIL import Image

from glowflow import InputError
from glowflow.data.sources.celeba import ATTRIBUTES

COUNT = 10


def value(i, a):
    return (i + a) % 3 == 0


def attributes(path, names, columns=ATTRIBUTES):
    rows = [
        f"{name} " + " ".join(f"{1 if value(i, a) else -1:2d}" for a in range(len(columns)))
        for i, name in enumerate(names)
    ]
    path.write_text("\n".join([str(len(names)), " ".join(columns) + " ", *rows]) + "\n")


@pytest.fixture
def folder(tmp_path):
    """Aligned faces: a square of (i, 100, 50) at rows 40:188 and columns 15:163, white around."""
    root = tmp_path / "CelebA"
    (root / "img_align_celeba").mkdir(parents=True)
    names = [f"{i + 1:06d}.jpg" for i in range(COUNT)]
    for i, name in enumerate(names):
        pixels = np.full((218, 178, 3), 255, dtype=np.uint8)
        pixels[40:188, 15:163] = (10 * i, 100, 50)
        Image.fromarray(pixels).save(root / "img_align_celeba" / name, quality=100, subsampling=0)
    attributes(root / "list_attr_celeba.txt", names)
    parts = [0] * 6 + [1] * 2 + [2] * 2
    lines = [f"{name} {part}" for name, part in zip(names, parts, strict=True)]
    (root / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    return root


def test_official_crop_attributes_and_partition(folder, read):
    splits = read(folder, size=(148, 148))
    assert [len(splits.train), len(splits.valid), len(splits.test)] == [6, 2, 2]
    index = 0
    for part in (splits.train, splits.valid, splits.test):
        for name, image, truth in zip(part.names, part.images, part.attributes, strict=True):
            assert name == f"{index + 1:06d}.jpg"
            assert truth.tolist() == [value(index, a) for a in range(40)]
            inside = image[:, 8:-8, 8:-8].astype(int)
            assert abs(inside - np.array([10 * index, 100, 50])[:, None, None]).max() <= 3
            assert abs(image.astype(int) - inside[:, :1, :1]).max() <= 40, "the white shows"
            index += 1
    assert splits.train.attribute_names == ATTRIBUTES
    assert (splits.dataset, splits.source) == ("celeba", "CelebA: 10 images, 148x148 RGB")
    assert splits.completeness == (
        "incomplete: train 6 of 162,770, valid 2 of 19,867, test 2 of 19,962"
    )


def test_forty_attributes():
    assert len(set(ATTRIBUTES)) == 40


def test_stretched_faces_are_whole(folder, read):
    image = read(folder, size=(64, 64), fit="stretch").train.images[0]
    assert image[:, 0, 0].tolist() == [255, 255, 255]


def test_images_of_another_size_are_not_cut(folder, read):
    for path in (folder / "img_align_celeba").iterdir():
        pixels = np.zeros((64, 64, 3), dtype=np.uint8)
        pixels[0, 0] = 255
        Image.fromarray(pixels).save(path.with_suffix(".png"))
        path.unlink()
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace(".jpg", ".png"))
    assert (read(folder).train.images[:, :, 0, 0] == 255).all()


def test_other_attributes_are_another_data_set(folder, read):
    names = sorted(p.name for p in (folder / "img_align_celeba").iterdir())
    attributes(folder / "list_attr_celeba.txt", names, ("Smiling", "Hat"))
    splits = read(folder)
    assert (splits.dataset, splits.counts, splits.completeness) == ("", (), "")
    assert splits.train.attribute_names == ("Smiling", "Hat")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("list_attr_celeba.txt", "10\n", "11\n", "announces 11 files and has lines for 10"),
        ("list_attr_celeba.txt", "000003.jpg", "333333.jpg", "000003.jpg .* no line of 40"),
        ("list_attr_celeba.txt", "000003.jpg  1", "000003.jpg  7", "000003.jpg .* no line of 40"),
        ("list_attr_celeba.txt", "000003.jpg  1", "000003.jpg", "000003.jpg .* no line of 40"),
        ("list_eval_partition.txt", "000003.jpg 0", "000003.jpg 3", "not 0, 1 or 2"),
    ],
)
def test_text_files_that_do_not_fit(folder, read, name, old, new, message):
    text = (folder / name).read_text().replace("000003.jpg -1", "000003.jpg  1")
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        read(folder)


def test_images_without_a_part_are_left_out(folder, read):
    path = folder / "list_eval_partition.txt"
    path.write_text(path.read_text().replace("000003.jpg 0\n", ""))
    splits = read(folder)
    (left_out,) = splits.reading.left_out
    assert (left_out.files, left_out.example) == (1, "000003.jpg")
    assert "000003.jpg" not in (*splits.train.names, *splits.valid.names, *splits.test.names)


@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "list_eval_partition.txt"])
def test_empty_text_file(folder, read, name):
    (folder / name).write_text("")
    with pytest.raises(InputError, match="is empty"):
        read(folder)


def test_broken_image_is_named(folder, read):
    (folder / "img_align_celeba" / "000002.jpg").write_bytes(b"broken")
    splits = read(folder)
    assert [line.split(":")[0] for line in splits.skipped] == ["000002.jpg"]
    assert splits.train.attributes[1].tolist() == [value(2, a) for a in range(40)]


def test_celeba_hq_folder(tmp_path, read):
    root = tmp_path / "CelebAMask-HQ"
    (root / "CelebA-HQ-img").mkdir(parents=True)
    names = [f"{i}.jpg" for i in range(12)]
    for i, name in enumerate(names):
        Image.new("RGB", (64, 64), (20 * i,) * 3).save(root / "CelebA-HQ-img" / name)
    attributes(root / "CelebAMask-HQ-attribute-anno.txt", names)
    splits = read(root, size=(32, 32))
    assert (splits.dataset, splits.source) == ("celebahq", "CelebA-HQ: 12 images, 32x32 RGB")
    assert splits.completeness == "incomplete: images 12 of 30,000"
    for name, image, truth in zip(
        splits.train.names, splits.train.images, splits.train.attributes, strict=True
    ):
        index = int(name.split(".")[0])
        assert abs(int(image.mean()) - 20 * index) <= 2
        assert truth.tolist() == [value(index, a) for a in range(40)]
