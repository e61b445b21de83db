"""The shape model of faces is learned from maps, holes and cut chins included, and shows none of them."""

import numpy as np
import pytest

from efface.errors import InputError
from efface.privacy.face_map import SHAPE, face_points
from efface.privacy.face_model import face_model, read_model
from efface.privacy.map_fit import MapSurfaces, misfits_mm
from efface.training import face_gallery


@pytest.fixture(scope="module")
def maps():
    """Eight faces; one has a hole, and one a cut chin."""
    faces = face_model().drawn(8, seed=5).astype(np.float64)
    faces[2, 30:35, 20:25] = np.nan
    faces[3, 25:45, :12] -= 45.0
    return faces


def test_a_model_is_learned(maps):
    model = face_gallery.learn(maps)
    assert model.modes.shape == (15, *SHAPE)
    assert np.abs(model.mean - face_model().mean).max() < 12
    assert np.isfinite(model.drawn(3)).all()
    assert model.mean == pytest.approx(model.mean[::-1], abs=1e-6)  # mirrored faces are faces


def test_no_face_that_was_learned_is_drawn(maps):
    drawn = MapSurfaces.of(face_gallery.learn(maps).drawn(50))
    learned = np.stack([misfits_mm(face_points(face), drawn) for face in maps[4:]])
    assert learned.min() > 0.6


def test_holes_and_cut_chins_are_filled(maps):
    rows = face_gallery._filled_rows(np.concatenate([maps, maps[:, ::-1]])).reshape(-1, *SHAPE)
    assert np.isfinite(rows).all()
    true = face_model().drawn(8, seed=5)
    assert np.abs(rows[3] - true[3])[25:45, :12].mean() < 10
    assert (rows[0] == maps[0]).all()


def test_a_saved_model_is_the_same_bytes_and_numbers(maps, tmp_path):
    model = face_gallery.learn(maps)
    first, again = (face_gallery.save(model, tmp_path / name) for name in "ab")
    assert first.read_bytes() == again.read_bytes()
    assert np.abs(read_model(first).mean - model.mean).max() <= 0.005


def test_too_few_faces_are_refused(tmp_path):
    with pytest.raises(InputError, match="0 of 0 label maps show a complete face; expected 6 or more"):
        face_gallery.faces_of([])
    with pytest.raises(InputError):
        face_gallery.main([str(tmp_path)])
