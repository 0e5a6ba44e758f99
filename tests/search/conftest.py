"""A tiny model and a folder of coloured crops."""

import pytest
from search_parts import make_embedder, write_photos


@pytest.fixture(scope="session")
def embedder():
    return make_embedder()


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos")
