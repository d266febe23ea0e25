"""New images become what training images became, whatever they are given as."""

import numpy as np
import pytest
import torch
from PIL import Image

from glowflow import DataConfig, InputError
from glowflow.data.open import open_images
from glowflow.models.training_data import TrainingData, prepare

SHAPE = (3, 8, 8)


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
def test_every_kind_of_input_is_read_as_the_data_are(tmp_path, fit):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (5, 12, 20, 3), dtype=np.uint8)
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path, each in zip(paths, pixels, strict=True):
        Image.fromarray(each).save(path)
    config = DataConfig(data=str(tmp_path), size=(8, 8), fit=fit)
    wanted = open_images(config, cache=tmp_path / "cache", progress=False).data.images
    channels_first = pixels.transpose(0, 3, 1, 2)
    inputs = (
        paths,
        [Image.open(path) for path in paths],
        pixels,
        channels_first,
        list(pixels),
        torch.from_numpy(channels_first.copy()),
    )
    for images in inputs:
        assert np.array_equal(prepare(images, SHAPE, TrainingData(fit=fit)), wanted)
    for alone in (paths[0], str(paths[0]), Image.open(paths[0]), pixels[0]):
        assert np.array_equal(prepare(alone, SHAPE, TrainingData(fit=fit)), wanted[:1])


def test_a_colour_array_on_a_grey_model_is_one_image():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    seen = prepare(pixels, (1, 8, 8), TrainingData())
    assert torch.equal(seen, prepare(Image.fromarray(pixels), (1, 8, 8), TrainingData()))


@pytest.mark.parametrize("count", [3, 4])
def test_grey_images_or_channels(count):
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8), dtype=np.uint8)
    with pytest.raises(InputError, match=r"the channels or the images: say with axes NCHW"):
        prepare(images, SHAPE, TrainingData())
    assert len(prepare(images, SHAPE, TrainingData(), axes="NHW")) == count
    assert len(prepare(images, SHAPE, TrainingData(), axes="NCHW")) == 1
    assert len(prepare(images, (1, 8, 8), TrainingData())) == count


def test_a_pillow_image_of_16_bits_is_read_as_its_file(tmp_path):
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 16
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path, tiffinfo={281: 1008})
    data = TrainingData()
    seen = prepare(path, (1, 8, 8), data)
    assert seen.max() == 255
    assert torch.equal(prepare(Image.open(path), (1, 8, 8), data), seen)


def test_what_cannot_be_read_is_one_sentence(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:900])
    picture = Image.new("RGB", (8, 8))
    for image, shape, said in (
        (Image.open(path), SHAPE, "Cannot read the image number 0"),
        (Image.new("F", (8, 8)), SHAPE, "32-bit floats"),
        (picture, (2, 8, 8), "the model has 2"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.bfloat16), SHAPE, "give uint8"),
    ):
        with pytest.raises(InputError, match=said):
            prepare(image, shape, TrainingData())


def test_damaged_exif_data_leave_the_pixels():
    picture = Image.fromarray(np.full((8, 8, 3), 7, np.uint8))
    picture.info["exif"] = b"Exif\x00\x00MM\x00*\xff\xff"
    assert (prepare(picture, SHAPE, TrainingData()) == 7).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [("size", "8"), ("size", [8]), ("channels", [3]), ("channels", True), ("bits", "8"),
     ("source_range", 3), ("value_range", ["a", 1]), ("held_out", "x"), ("images", [1, 2])],
)  # fmt: skip
def test_a_field_of_another_type_is_named(name, value):
    with pytest.raises(InputError, match=f"data.{name} is"):
        TrainingData.from_dict({name: value})


def test_a_section_comes_back_as_it_was():
    data = TrainingData(size=(8, 9), channels=3, value_range=(0.5, 1), held_out=0.1, bits=None,
                        images=(1, 2, 3), source_range=(0, 4095))  # fmt: skip
    section = {key: list(v) if isinstance(v, tuple) else v for key, v in data.to_dict().items()}
    assert TrainingData.from_dict({**section, "later": 1}) == data


def test_grey_pictures_four_pixels_wide_may_be_one_of_four_channels():
    pixels = np.zeros((10, 4, 4), np.uint8)
    with pytest.raises(InputError, match="say with axes NHWC for one image, or NHW"):
        prepare(pixels, (1, 4, 4), TrainingData())
    assert prepare(pixels, (1, 4, 4), TrainingData(), axes="NHW").shape == (10, 1, 4, 4)
