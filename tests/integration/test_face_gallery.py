"""The gallery of faces of nobody, against real heads: no real face is among them, and what is whole is found."""

from pathlib import Path

import numpy as np
import pytest

from development_heads import HEADS
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.skin import skin_threshold
from efface.anatomy.upright import rigid_of
from efface.io.scan import load_scan
from efface.privacy import singled_out as one
from efface.privacy.face_map import face_map, face_points, filled
from efface.privacy.face_model import face_model
from efface.privacy.map_fit import MapSurfaces, misfits_mm

LABEL_MAPS = HEADS.parent / "head_labelmaps"
pytestmark = [
    pytest.mark.heads,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*torch.jit.load:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def heads():
    """The faces of the development heads, over the mean of the model."""
    maps = []
    for path in sorted(HEADS.glob("sub-*/anat/*_T1w.nii.gz")):
        whole = HeadAnatomy(load_scan(path)).whole
        pose, threshold = rigid_of(whole.average_to_scan), skin_threshold(whole.image)
        pose = pose @ one.onto_mean(face_map(whole.image, pose, threshold))
        maps.append(face_map(whole.image, pose, threshold))
    assert len(maps) == 19
    return np.stack(maps)


def distances(maps, surfaces):
    return np.stack([misfits_mm(face_points(face), surfaces) for face in maps])


def test_no_face_of_the_gallery_is_nearer_to_a_head_than_heads_are_to_each_other(heads):
    among = distances(heads, MapSurfaces.of(np.stack([filled(face) for face in heads])))
    apart = among[~np.eye(len(heads), dtype=bool)]
    drawn = face_model().drawn(one.SAMPLES)
    to_drawn = distances(heads, MapSurfaces.of(drawn))
    assert to_drawn.min() > apart.min()
    assert 0.7 < np.median(to_drawn) / np.median(apart) < 1.4  # nor are they a kind of their own


def test_no_face_of_the_gallery_is_one_that_the_model_was_learned_from(tmp_path):
    from efface.training.face_gallery import aligned, faces_of

    maps = aligned(faces_of(sorted(Path(LABEL_MAPS).glob("*.nii.gz"))))
    both = np.concatenate([maps, maps[:, ::-1]])
    apart = distances(maps, MapSurfaces.of(np.stack([filled(face) for face in maps])))
    to_drawn = distances(both, MapSurfaces.of(face_model().drawn(one.SAMPLES)))
    between = apart[~np.eye(len(maps), dtype=bool)]
    assert to_drawn.min() > 0.55  # mm: two scans of one person fit each other to 0.4 to 0.6
    assert np.median(to_drawn) > 0.9 * np.median(between)


def test_a_whole_face_is_number_one_and_the_mean_face_is_not(heads):
    found = [one.rank_of(face, face).rank for face in heads]
    assert max(found) < 1.5
    mean = [one.rank_of(face_model().mean, face).rank for face in heads]
    assert 100 < np.mean(mean) < 900
