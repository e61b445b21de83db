"""Fixtures of the defacing tests."""

import pytest

import phantom_anatomy
from efface.anatomy.head_anatomy import HeadAnatomy


@pytest.fixture(scope="module")
def no_search():
    """Registrations and landmarks of the phantom are known."""
    with phantom_anatomy.no_search():
        yield


@pytest.fixture
def anatomy(tmp_path) -> HeadAnatomy:
    """The phantom in RAS+, with its brain and registration."""
    return phantom_anatomy.stored(tmp_path)
