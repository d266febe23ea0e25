"""Crops of photographs: where the eyes land, and what comes back."""

import numpy as np
import pytest

from glowflow import InputError
from glowflow.photos import crops, faces
from glowflow.photos.crops import BLEND, Crop, box, centre, cut, paste, whole
from glowflow.photos.faces import LEFT_EYE, by_eyes, find_face
from glowflow.photos.images import read_photo

EYES = [
    ((60.0, 80.0), (100.0, 80.0)),
    ((60.0, 80.0), (95.0, 100.0)),
    ((101.5, 90.5), (70.5, 95.5)),
]
"""Level, tilted, and in a photograph that is upside down."""


@pytest.mark.parametrize("eyes", EYES)
def test_eyes_land_where_they_should(eyes):
    crop = by_eyes(*eyes)
    found = crop.locate(np.array(eyes))
    np.testing.assert_allclose(found, [LEFT_EYE, (1 - LEFT_EYE[0], LEFT_EYE[1])], atol=1e-12)
    np.testing.assert_allclose(crop.place(found), eyes, atol=1e-9)
    assert crop.size[0] == pytest.approx(crop.size[1])
    with pytest.raises(InputError, match="Both eyes are at"):
        by_eyes(eyes[0], eyes[0])


@pytest.mark.parametrize("eyes", EYES)
def test_pixels_of_the_eyes_land_where_they_should(eyes):
    photo = np.zeros((3, 200, 160), dtype=np.uint8)
    rows, columns = np.mgrid[:200, :160] + 0.5
    for channel, (x, y) in enumerate(eyes):
        photo[channel] = 255 * ((columns - x) ** 2 + (rows - y) ** 2 < 16)
    face = cut(photo, by_eyes(*eyes), (3, 64, 64)).astype(float)
    for channel, u in enumerate((LEFT_EYE[0], 1 - LEFT_EYE[0])):
        r, c = np.mgrid[:64, :64] + 0.5
        weight = face[channel].sum()
        middle = (face[channel] * c).sum() / weight, (face[channel] * r).sum() / weight
        np.testing.assert_allclose(middle, (64 * u, 64 * LEFT_EYE[1]), atol=1)


def noise(shape=(3, 60, 48), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_an_upright_crop_is_the_part_of_the_array():
    photo = noise()
    assert np.array_equal(cut(photo, box(5, 7, 16, 24), (3, 24, 16)), photo[:, 7:31, 5:21])
    averaged = photo[:, 4:36, 2:34].reshape(3, 16, 2, 16, 2).mean(axis=(2, 4))
    found = cut(photo, box(2, 4, 32, 32), (3, 16, 16))
    assert np.abs(found - averaged).max() <= 0.5


def test_the_frame_of_an_aligned_face_is_the_square_that_is_used_of_it():
    photo, shape = noise((3, 218, 178)), (3, 64, 64)
    assert whole(photo, shape, "crop", aligned=True) == box(15, 40, 148, 148)
    assert whole(photo, shape, "crop", aligned=False) == box(0, 20, 178, 178)
    assert whole(photo, shape, "stretch", aligned=True) == box(0, 0, 178, 218)
    assert whole(photo, (3, 64, 32), "patches", aligned=True) == box(73, 77, 32, 64)
    small = noise((3, 300, 100))  # which is enlarged
    assert whole(small, (3, 128, 128), "patches", aligned=False) == box(0, 100, 100, 100)
    assert whole(noise((3, 178, 218)), shape, "crop", aligned=True) == box(20, 0, 178, 178)


def test_outside_of_the_photograph_its_edge_goes_on():
    photo = noise()
    found = cut(photo, box(-4, -4, 16, 16), (3, 16, 16))
    assert np.array_equal(found[:, 4:, 4:], photo[:, :12, :12])
    assert np.array_equal(found[:, 0, 4:], photo[:, 0, :12])
    assert np.array_equal(found[:, 4:, 0], photo[:, :12, 0])


def test_the_centre_has_the_aspect_ratio_of_the_model():
    assert centre(noise((1, 60, 48)), (1, 8, 8)) == box(0, 6, 48, 48)
    assert centre(noise((1, 60, 48)), (1, 8, 16)) == box(0, 18, 48, 24)


@pytest.mark.parametrize("crop", [box(5, 7, 30, 30), by_eyes((20, 30), (26, 33))])
def test_paste_adds_the_change_and_nothing_else(crop):
    photo = noise(seed=1) // 2 + 40
    before = cut(photo, crop, (3, 16, 16))
    assert np.array_equal(paste(photo, crop, before, before), photo)
    after = before + np.uint8(20)
    difference = paste(photo, crop, before, after).astype(int) - photo
    rows, columns = np.mgrid[: photo.shape[1], : photo.shape[2]] + 0.5
    places = crop.locate(np.stack([columns, rows], axis=-1))
    depth = np.minimum(places, 1 - places).min(axis=-1)
    assert (difference[:, depth > BLEND + 0.01] == 20).all()
    assert (difference[:, depth < 0] == 0).all()
    edge = difference[:, (depth > 0.03) & (depth < 0.07)]
    assert ((edge > 0) & (edge < 20)).all()


def test_memory_of_a_crop_and_a_paste_does_not_grow_with_the_photograph(monkeypatch):
    random = np.random.default_rng(0)
    photo = random.integers(0, 256, (3, 90, 120), dtype=np.uint8)
    after = random.integers(0, 256, (3, 16, 16), dtype=np.uint8)
    for crop in (box(10, 5, 80, 80), box(-20, -20, 160, 160), by_eyes((40, 40), (70, 52))):
        whole = cut(photo, crop, (3, 16, 16)), paste(photo, crop, after // 2, after)
        monkeypatch.setattr(crops, "POINTS_AT_ONCE", 300)
        bands = cut(photo, crop, (3, 16, 16)), paste(photo, crop, after // 2, after)
        monkeypatch.undo()
        for a, b in zip(whole, bands, strict=True):
            differs = np.abs(a.astype(int) - b)
            assert differs.max() <= 1 and (differs > 0).mean() < 0.01  # halves, rounded


def test_missing_opencv_is_one_sentence(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(faces, "import_module", missing)
    with pytest.raises(InputError, match=r"pip install 'glowflow\[align\]'"):
        find_face(noise(), "a.png")


def test_no_face_and_several(monkeypatch, tmp_path):
    pytest.importorskip("cv2")
    with pytest.raises(InputError, match=r"No face with two eyes is found in a\.png: .*--crop"):
        find_face(np.full((3, 120, 120), 128, dtype=np.uint8), "a.png")
    monkeypatch.setattr(faces, "_faces", lambda photo: EYES[:2])
    with pytest.raises(InputError, match=r"2 faces are found in a\.png: choose one .*2,6,155; "):
        find_face(noise(), "a.png")
    with pytest.raises(InputError, match="There is no image"):
        read_photo(tmp_path / "none.png", 3)


def astronaut():
    pytest.importorskip("cv2")
    data = pytest.importorskip("skimage.data", reason="scikit-image has the photograph")
    return np.ascontiguousarray(data.astronaut().transpose(2, 0, 1))


PUPILS = np.array([(203.5, 100.8), (247.7, 103.3)])
"""Of the astronaut, read off the enlarged photograph by eye."""


@pytest.mark.parametrize("turned", [False, True])
def test_a_real_face_is_found(turned):
    photo, pupils = astronaut(), PUPILS
    if turned:
        tilt = Crop((20.0, -40.0), (507.0, 70.0), (-70.0, 507.0))
        photo, pupils = cut(photo, tilt, (3, 512, 512)), 512 * tilt.locate(PUPILS)
    crop = find_face(photo, "astronaut")
    found = crop.locate(pupils)
    np.testing.assert_allclose(found, [LEFT_EYE, (1 - LEFT_EYE[0], LEFT_EYE[1])], atol=0.015)
    two = np.concatenate([photo, photo], axis=2)
    with pytest.raises(InputError, match="2 faces are found in two"):
        find_face(two, "two")
