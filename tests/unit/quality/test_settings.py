"""What decides a verdict is listed whole, so that verdicts are made again when any of it changes."""

import ast
import inspect

import pytest

from efface import quality
from efface.anatomy import skin
from efface.quality import DECIDING_MODULES, brain, face


def constants(module):
    """Upper-case names that the source of a module assigns numbers to, found without running it."""
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name) and name.id.isupper():
                        value = getattr(module, name.id)
                        if isinstance(value, int | float | tuple):
                            yield name.id


@pytest.mark.parametrize("module", DECIDING_MODULES, ids=lambda m: m.__name__)
def test_every_number_of_the_modules_that_judge_is_listed(module):
    listed = quality.settings()
    prefix = module.__name__.removeprefix("efface.")
    for name in constants(module):
        assert any(key == f"{prefix}.{name.lower()}" or key.startswith(f"{prefix}.{name.lower()}_") for key in listed), (
            name
        )


@pytest.mark.parametrize(
    ("module", "name"), [(face, "FRONT_MM"), (face, "LEAST_CM2"), (brain, "FEW"), (skin, "OTSU_SHARE")]
)
def test_a_changed_number_changes_the_settings(monkeypatch, module, name):
    before = dict(quality.settings())
    monkeypatch.setattr(module, name, 1.5 * getattr(module, name))
    assert quality.settings() != before


def test_looks_count_too(monkeypatch):
    before = dict(quality.settings())
    monkeypatch.setattr(face, "LOOKS", face.LOOKS[:-1])
    assert quality.settings() != before
