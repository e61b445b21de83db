"""BIDS file names of masks in a raw data set."""

from efface.errors import InputError

DEFACE_MASK = "defacemask"
BEFORE_MOD = ("sub", "ses", "task", "acq", "ce", "rec", "run")
AFTER_MOD = ("chunk",)
"""Entities that the name of a deface mask can have, in BIDS's order around ``mod``."""
ENDINGS = (".nii.gz", ".nii")


def deface_mask_name(image_name: str) -> str:
    """BIDS name of the mask that goes with a defaced image in a raw data set.

    Parameters
    ----------
    image_name
        File name of the image: ``sub-01_run-1_T1w.nii.gz``.

    Returns
    -------
    str
        ``sub-01_run-1_mod-T1w_defacemask.nii.gz``.

    Raises
    ------
    InputError
        If the image has no BIDS name, or an entity that the name of a mask cannot have.
    """
    stem = next((image_name.removesuffix(end) for end in ENDINGS if image_name.endswith(end)), "")
    *pairs, suffix = stem.split("_")
    entities = dict(pair.split("-", 1) for pair in pairs if "-" in pair)
    is_named = "sub" in entities and len(entities) == len(pairs) and suffix.isalnum() and all(entities.values())
    strange = sorted(set(entities) - {*BEFORE_MOD, *AFTER_MOD})
    if not is_named or strange:
        why = f"its entity {strange[0]} has no place in the name of a mask" if is_named else "it has no BIDS name"
        msg = f"the mask of {image_name} cannot be named by BIDS ({why}): give --mask-out a file name"
        raise InputError(msg)
    before = [f"{key}-{entities[key]}" for key in BEFORE_MOD if key in entities]
    after = [f"{key}-{entities[key]}" for key in AFTER_MOD if key in entities]
    return "_".join([*before, f"mod-{suffix}", *after, f"{DEFACE_MASK}.nii.gz"])
