"""What every test file shares."""

import pytest

from development_heads import HEADS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if HEADS.is_dir():
        return
    skip = pytest.mark.skip(reason="needs the development heads in ../shared/data")
    for item in items:
        if item.get_closest_marker("heads"):
            item.add_marker(skip)
