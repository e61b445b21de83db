"""Fixtures of the SLANT tests."""

import pytest

import slant_weights


@pytest.fixture
def compact(tmp_path):
    """Folder of our own weights; the label prior alone decides."""
    return slant_weights.write_compact(tmp_path / "weights")
