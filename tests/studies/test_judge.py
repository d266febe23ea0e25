"""The judge, on images whose attributes are known pixels."""

import numpy as np
import pytest
import torch

from glowflow import InputError
from glowflow.data.types import ImageData
from glowflow.studies.measured.judge import Judge, examine, train_judge
from tests.studies.worlds import NAMES, SHAPE, blocks


def test_it_learns_what_is_there():
    data = blocks(800)
    judge = train_judge(data, images=8_000, progress=False)
    held = blocks(300, seed=1)
    for column, (name, trust) in enumerate(examine(judge, held).items()):
        assert name == NAMES[column]
        assert trust.accuracy > 0.98 and trust.balanced > 0.98
        share = held.attributes[:, column].mean()
        assert trust.majority == pytest.approx(max(share, 1 - share))


def test_a_judge_that_always_says_the_same_has_half_the_balanced_accuracy():
    judge = Judge(SHAPE, len(NAMES)).eval()
    with torch.no_grad():
        judge.heads.weight.zero_()
        judge.heads.bias.fill_(-1.0)
    data = blocks(100)
    for column, trust in enumerate(examine(judge, data).values()):
        assert trust.balanced == 0.5
        assert trust.accuracy == pytest.approx((~data.attributes[:, column]).mean())


def test_the_same_seed_is_the_same_judge():
    data = blocks(100)
    torch.manual_seed(5)
    first = train_judge(data, images=640, seed=3, progress=False)
    expected = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), expected)  # nobody else's random numbers are used up
    second, other = (train_judge(data, images=640, seed=s, progress=False) for s in (3, 4))
    for a, b, c in zip(*(j.parameters() for j in (first, second, other)), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 64, 48), (3, 4, 4)])
def test_any_size(shape):
    images = np.zeros((300, *shape), dtype=np.uint8)
    assert Judge(shape, 7).eval().verdicts(images).shape == (300, 7)


def test_bad_input():
    data = blocks(20)
    with pytest.raises(InputError, match="have no attributes"):
        train_judge(ImageData(data.images), progress=False)
    floats = ImageData(data.images.astype(np.float32), None, data.attributes, (), NAMES)
    with pytest.raises(InputError, match="float32: a judge sees"):
        train_judge(floats, progress=False)
    with pytest.raises(InputError, match="number of images is 0"):
        train_judge(data, images=0, progress=False)
