"""Alignment of a brain with the template: what it starts from, and which result counts."""

import numpy as np
import pytest
from scipy import ndimage

from efface.errors import RegistrationError
from efface.segmentation import brain_alignment
from efface.segmentation.braincolor_template import load_template
from efface.spatial.pose_search import rms_distance_mm
from efface.spatial.registration import AffineResult
from efface.spatial.types import Volume

SHIFT_MM = (35.0, -20.0, 12.0)


def brain() -> tuple[Volume, np.ndarray, np.ndarray]:
    """The template's own brain somewhere else, its mask, and the transform back."""
    template = load_template()
    shift = np.eye(4)
    shift[:3, 3] = SHIFT_MM
    return Volume(template.data, shift @ template.affine), template.data > 0, np.linalg.inv(shift)


def test_centres_are_matched():
    volume, mask, back = brain()
    np.testing.assert_allclose(brain_alignment.pose_by_centre(mask, volume.affine, load_template()), back, atol=1e-3)


def test_a_brain_whose_head_was_not_found_starts_from_its_centre(monkeypatch):
    """A search over all poses can end in a stretched one; a head that lies as most do needs none."""
    volume, mask, back = brain()
    search = brain_alignment.register_affine
    starts = []

    def recorded(*args, **kwargs):
        starts.append(kwargs["initial"])
        return search(*args, **kwargs)

    monkeypatch.setattr(brain_alignment, "register_affine", recorded)
    found = brain_alignment.align(volume, mask, None, load_template())
    points = ndimage.center_of_mass(mask) + np.array([[0, 0, 0], [40, 0, 0], [0, 40, 0], [0, 0, 40.0]])
    assert rms_distance_mm(found, back, points) < 1
    assert len(starts) == 1
    np.testing.assert_allclose(starts[0], back, atol=1e-3)


@pytest.mark.parametrize("given", [True, False])
def test_a_search_that_fails_does_not_lose_what_another_start_found(monkeypatch, given):
    """Scores of the start given, of the centre, and of the search."""
    volume, mask, _ = brain()
    results = {"given": (0.3, False), "centre": (0.6, True), "search": (0.9, False)}

    def register(*_, initial, **__):
        which = "search" if initial is None else "given" if initial[0, 3] == 99 else "centre"
        score, converged = results[which]
        return AffineResult(np.diag([score, 1, 1, 1.0]), score, converged, "" if converged else which, 12, 1)

    monkeypatch.setattr(brain_alignment, "register_affine", register)
    initial = np.eye(4)
    initial[0, 3] = 99
    found = brain_alignment.align(volume, mask, initial if given else None, load_template())
    assert found[0, 0] == 0.6
    results["centre"] = (0.6, False)
    with pytest.raises(RegistrationError, match="template does not fit the brain: search"):
        brain_alignment.align(volume, mask, initial if given else None, load_template())
