"""Sheets of images, and curves."""

import numpy as np
import pytest
import torch

from glowflow.models.flow import Drawn
from glowflow.reports.levels import sprite_columns
from glowflow.reports.pictures import CELL, crossed, grid, marked, rows, save_png, to_pil
from glowflow.reports.plots import loss_curve
from tests.evaluation.images import noise


class TestPictures:
    @pytest.mark.parametrize("channels", [1, 3, 4, 2, 7])
    def test_small_images_are_enlarged_by_whole_pixels(self, channels):
        images = noise(6, (channels, 8, 8))
        sheet = grid(images, columns=3)
        assert sheet.width >= 3 * CELL
        assert sheet.height >= 2 * CELL

    def test_pixels_are_the_values(self):
        image = noise(1, (3, 8, 8))[0]
        assert np.array_equal(np.asarray(to_pil(image)).transpose(2, 0, 1), image)
        sheet = np.asarray(grid(image[None]))
        assert (sheet[2:10, 2:10] == image[:, 0, 0]).all()

    def test_a_row_says_how_many_of_it_are_no_pictures(self):
        finite = torch.tensor([True, False, True, True])
        drawn = Drawn(torch.zeros(4, 3, 8, 8), finite, torch.tensor([True, False, False, True]))
        assert marked("T = 1", drawn) == "T = 1  2 bad"
        assert marked("T = 1", Drawn(drawn.images, finite | True, finite | True)) == "T = 1"
        shown = crossed(noise(4, (3, 8, 8)), drawn.usable.numpy())
        bad = [set(np.unique(image).tolist()) == {0, 255} for image in shown]
        assert bad == [False, True, True, False]

    def test_floats_are_scaled_from_their_range(self):
        image = np.linspace(-3, 7, 16, dtype=np.float32).reshape(1, 4, 4)
        values = np.asarray(to_pil(image))
        assert (values.min(), values.max()) == (0, 255)

    def test_rows_have_room_for_labels(self):
        images = noise(4)
        assert rows([("a", images)]).width > grid(images, columns=4).width

    def test_png_replaces_atomically(self, tmp_path):
        save_png(tmp_path / "deep" / "a.png", grid(noise(1)))
        assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.png"]

    def test_loss_curve_is_a_png(self):
        metrics = [{"images": i, "bits_per_dim": 8.0 - i / 10} for i in range(20)]
        metrics.append({"images": 20, "valid_bits_per_dim": 6.0})
        assert loss_curve(metrics, {"WebP": 5.0}).startswith(b"\x89PNG")
        assert loss_curve([]).startswith(b"\x89PNG")


@pytest.mark.parametrize(("count", "height"), [(400, 64), (6375, 64), (7000, 64), (10_000, 48)])
def test_a_sprite_is_no_higher_than_a_webp_can_be(count, height):
    columns = sprite_columns(count, height)
    assert -(-count // columns) * height <= 16_383
    assert columns == 25 or -(-count // 25) * height > 16_383
