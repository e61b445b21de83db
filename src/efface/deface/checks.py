"""Is there a face to remove? What every method asks of a scan before and after it decides."""

import numpy as np

from efface import registration, templates
from efface.anatomy import Anatomy
from efface.arrays import Volume
from efface.deface.edit import Edit
from efface.errors import AnatomyError
from efface.templates import FEATURE_LABELS

SCALP_MM = 6.0
LEAST_SCALP = 0.15
"""Head further than `SCALP_MM` from the brain, relative to the brain: above 0.7 in whole heads, 0 in stripped ones."""
LEAST_FACE = 0.2
"""Share of eyes, nose and mouth that must be head: less, and the face is gone."""
LEAST_CUT_ML = 20.0
COARSE_MM = 4.0


def refuse_stripped(anatomy: Anatomy) -> None:
    """Refuse a scan that holds hardly more than a brain.

    Raises
    ------
    AnatomyError
        If so.
    """
    scalp = np.count_nonzero(anatomy.head & (anatomy.from_brain_mm > SCALP_MM))
    share = scalp / np.count_nonzero(anatomy.brain)
    if share < LEAST_SCALP:
        msg = (
            f"the head outside the brain is {share:.0%} of the brain's volume; expected at least {LEAST_SCALP:.0%}: "
            "the scan is skull-stripped and has no face to remove; give the whole head"
        )
        raise AnatomyError(msg)


def missing_face(anatomy: Anatomy, edit: Edit) -> tuple[str, ...]:
    """Warn of a scan whose face was gone before.

    Where the method has found the average head in the scan, its eyes, nose and mouth must be tissue there; else the
    edit must take away some tissue.
    """
    if "registration" in anatomy.__dict__ and anatomy.registration.converged:
        share = face_share(anatomy)
        if share < LEAST_FACE:
            return (
                f"only {share:.0%} of where eyes, nose and mouth should be is head: this scan was probably defaced "
                "before, or its field of view ends in the face; look at the result",
            )
        return ()
    cut_ml = np.count_nonzero(edit.mask & anatomy.head) * float(np.prod(anatomy.scan.spacing_mm)) / 1000
    if cut_ml < LEAST_CUT_ML:
        return (
            f"the edit changes only {cut_ml:.1f} ml of the head: this scan was probably defaced before, or the method "
            "failed; look at the result",
        )
    return ()


def face_share(anatomy: Anatomy) -> float:
    """Share of the average head's eyes, nose and mouth that is head in the scan."""
    head = registration.block_mean(Volume(anatomy.head.astype(np.float32), anatomy.scan.affine), COARSE_MM)
    labels = templates.prior("features")
    at = registration.resample(head, templates.PRIOR_GRID, anatomy.from_average)
    wanted = [FEATURE_LABELS[name] for name in ("eyes", "nose", "mouth")]
    return float(at[np.isin(labels.data, wanted)].mean())
