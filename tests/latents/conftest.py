"""What the tests share."""

import pytest

from tests.latents.worlds import small_model


@pytest.fixture(scope="module")
def model():
    return small_model()
