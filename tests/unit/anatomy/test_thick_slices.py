"""A whole head in few thick slices: everything that defacing needs is found in it."""

import nibabel as nib
import numpy as np
import pytest

import average_head
import phantom
from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.io.scan import load_scan
from efface.quality import QualityClass, judge
from efface.spatial.resampling import resample
from efface.spatial.types import Volume

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*torch.jit.load:DeprecationWarning")]


def thick_slices(step=5, count=30):
    """Axial slices of about 5 mm, 1 mm blocks of the average head averaged, from the vertex down."""
    whole = average_head.volume(1.0)
    top = int(np.flatnonzero((whole.data > 60).any(axis=(0, 1)))[-1]) + 6
    low = max(0, top - step * count)
    slab = whole.data[:, :, low : low + step * count]
    x, y, _ = slab.shape
    affine = whole.affine.copy()
    affine[:3, 3] += whole.affine[:3, 2] * (low + (step - 1) / 2)
    affine[:3, 2] *= step
    return Volume(slab.reshape(x, y, count, step).mean(axis=3)[::2, ::2], affine @ np.diag([2.0, 2.0, 1.0, 1.0]))


def test_pose_brain_landmarks_and_verdict_of_thirty_slices():
    volume = thick_slices()
    anatomy = HeadAnatomy(load_scan(nib.Nifti1Image(np.rint(volume.data).astype(np.int16), volume.affine)))
    assert anatomy.scan.shape[2] == 30
    points = np.argwhere(volume.data > 100) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    moved = points @ (anatomy.average_to_scan[:3, :3] - np.eye(3)).T + anatomy.average_to_scan[:3, 3]
    assert np.sqrt((moved**2).sum(axis=1).mean()) < 2.0
    assert phantom.dice(anatomy.brain, resample(templates.prior("brain"), anatomy.scan.grid) > 0.5) > 0.85
    assert {"nose", "eyes"} <= {landmark.name for landmark in anatomy.landmarks}
    verdict = judge(anatomy, anatomy.scan)
    assert verdict.verdict == QualityClass.FAILURE_I
    assert set(verdict.face.left) >= {"eyes", "nose"}
