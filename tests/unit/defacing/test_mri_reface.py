"""mri_reface on the average head, whose position is known; the deformation is tested by itself."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import average_head
import phantom
from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.templates import FEATURE_LABELS
from efface.defacing import Edit, apply_edit, mri_reface
from efface.defacing.mri_reface import Params, tissue_noise
from efface.errors import AnatomyError, RegistrationError
from efface.io.scan import load_scan
from efface.spatial import registration
from efface.spatial.registration import AffineResult
from efface.spatial.resampling import Warp, block_mean, resample

find_best_warp = mri_reface._best_warp
NOISE = 8.0


def stiff_warp(anatomy):
    """The position of the average head, and no deformation."""
    grid = block_mean(anatomy.scan.volume, mri_reface.FITTING_MM).grid
    return Warp(np.zeros((*grid.shape, 3), np.float32), grid, np.linalg.inv(anatomy.average_to_scan))


@pytest.fixture(autouse=True)
def _no_deformation(monkeypatch):
    monkeypatch.setattr(mri_reface, "_best_warp", stiff_warp)


@pytest.fixture(scope="module")
def anatomy():
    return average_head.anatomy()


@pytest.fixture(scope="module")
def edit(anatomy):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mri_reface, "_best_warp", stiff_warp)
        return mri_reface.plan(anatomy, Params())


def prior(anatomy, name, order=1):
    return resample(templates.prior(name), anatomy.scan.grid, order=order)


def replaced(anatomy, edit: Edit):
    """Voxels of the edit where the face and ears are, not the air around the head."""
    return edit.mask & (prior(anatomy, "face_and_ears") > 0.05)


def clear_tissue(anatomy, edit: Edit):
    """Voxels of the edit where nine of ten heads have tissue."""
    return replaced(anatomy, edit) & (prior(anatomy, "head") > 0.9)


def along_nose(anatomy, first_mm: float, last_mm: float):
    """Voxels on the midline at the height of the nose's tip, between two distances to the front."""
    index = np.moveaxis(np.indices(anatomy.scan.shape), 0, -1)
    points = index @ anatomy.scan.affine[:3, :3].T + anatomy.scan.affine[:3, 3]
    near = (np.abs(points[..., 0] - 1) < 5) & (np.abs(points[..., 2] + 68) < 5)
    return near & (points[..., 1] >= first_mm) & (points[..., 1] <= last_mm)


TISSUE = 60.0
"""Half as bright as the darkest tissue of the average nose; its air is below 20."""


# What changes


@pytest.mark.parametrize("margin_mm", [0.0, 7.0, 15.0])
def test_the_edit_stays_clear_of_the_brain_by_the_margin(anatomy, margin_mm):
    edit = mri_reface.plan(anatomy, Params(margin_mm=margin_mm))
    distance = ndimage.distance_transform_edt(~anatomy.brain, sampling=anatomy.scan.spacing_mm)
    assert distance[edit.mask].min() > margin_mm
    assert distance[edit.mask].min() < max(margin_mm, 4) + 4, "the face comes as near as it may"


def test_a_wider_margin_takes_voxels_out_only(anatomy, edit):
    wide = mri_reface.plan(anatomy, Params(margin_mm=15.0))
    assert not (wide.mask & ~edit.mask).any()
    assert wide.mask.sum() < edit.mask.sum()


def test_the_features_are_replaced(anatomy, edit):
    changed = apply_edit(anatomy.scan, edit).data != anatomy.scan.data
    labels = prior(anatomy, "features", order=0)
    for name, number in FEATURE_LABELS.items():
        assert edit.mask[labels == number].mean() > 0.85, name
        assert changed[labels == number].mean() > 0.8, name
    assert changed[replaced(anatomy, edit)].mean() > 0.9


def test_the_air_around_the_head_is_replaced_down_to_the_neck(anatomy, edit):
    air = prior(anatomy, "air") > 0.9
    index = np.moveaxis(np.indices(anatomy.scan.shape), 0, -1)
    height = (index @ anatomy.scan.affine[:3, :3].T + anatomy.scan.affine[:3, 3])[..., 2]
    assert edit.mask[air & (height > -110)].all()
    below = air & (height < -118) & ~(prior(anatomy, "face_and_ears") > 0)
    assert below.any()
    assert not edit.mask[below].any()


def test_the_back_of_the_head_stays(anatomy, edit):
    back = anatomy.head.copy()
    back[:, anatomy.scan.shape[1] // 4 :] = False
    assert back.sum() > 10_000
    assert not (edit.mask & back).any()


def test_a_head_that_lies_obliquely_gets_the_same_face(anatomy, edit):
    turn = phantom.rotation(20)
    scan = load_scan(nib.Nifti1Image(anatomy.scan.data.astype(np.int16), turn @ anatomy.scan.affine))
    pose = AffineResult(turn, 1.0, converged=True, reason="", dof=12, starts=1)
    turned = HeadAnatomy(scan, anatomy.brain, registration=pose)
    found = mri_reface.plan(turned, Params())
    assert phantom.dice(found.mask, edit.mask) > 0.99
    after, expected = (
        apply_edit(a.scan, e).data[clear_tissue(anatomy, edit)] for a, e in ((turned, found), (anatomy, edit))
    )
    assert np.corrcoef(after, expected)[0, 1] > 0.98


# Noise


def test_the_same_scan_gets_the_same_values(anatomy, edit):
    again = mri_reface.plan(average_head.anatomy(), Params())
    assert np.array_equal(again.mask, edit.mask)
    assert np.array_equal(again.values, edit.values)


def test_another_scan_gets_other_noise(anatomy, edit):
    data = anatomy.scan.data.copy()
    data[30, 10, 50] += 1
    other = mri_reface.plan(average_head.anatomy(data), Params())
    assert np.array_equal(other.mask, edit.mask)
    assert (other.values != edit.values).mean() > 0.99


def test_blanked_air_stays_zero(anatomy):
    blanked = average_head.anatomy(np.where(ndimage.binary_dilation(anatomy.head), anatomy.scan.data, 0))
    edit = mri_reface.plan(blanked, Params())
    after = apply_edit(blanked.scan, edit).data
    around = edit.mask & (prior(anatomy, "air") > 0.5) & ~replaced(anatomy, edit)
    assert around.sum() > 10_000
    assert not after[around].any()
    before_face = replaced(anatomy, edit) & (prior(anatomy, "head") == 0) & (prior(anatomy, "air") > 0.5)
    assert before_face.sum() > 1000
    assert (after[before_face] == 0).mean() > 0.95


@pytest.mark.parametrize(("zeros", "blanked"), [(0.2, False), (0.4, True)])
def test_air_is_blanked_from_three_tenths_of_zeros_on(anatomy, zeros, blanked):
    air = ~ndimage.binary_dilation(anatomy.head)
    rest = np.where(np.random.default_rng(2).random(air.shape) < zeros, 0, 10)
    edit = mri_reface.plan(average_head.anatomy(np.where(air, rest, anatomy.scan.data).astype(np.float32)), Params())
    after = np.zeros(air.shape, np.float32)
    after[edit.mask] = edit.values
    around = edit.mask & (prior(anatomy, "air") > 0.5) & ~replaced(anatomy, edit)
    assert (after[around] == 0).all() == blanked


def noisy(anatomy):
    rng = np.random.default_rng(1)
    real, imaginary = rng.normal(0, NOISE, (2, *anatomy.scan.shape))
    return average_head.anatomy(np.hypot(anatomy.scan.data + real, imaginary).astype(np.float32))


def test_air_gets_noise_as_strong_as_it_had(anatomy):
    grainy = noisy(anatomy)
    edit = mri_reface.plan(grainy, Params())
    after = apply_edit(grainy.scan, edit).data
    air = edit.mask & (prior(anatomy, "air") > 0.9) & ~anatomy.head
    for share in (25, 50, 75):
        assert np.percentile(after[air], share) == pytest.approx(
            np.percentile(grainy.scan.data[air], share), rel=0.2, abs=1
        )
    assert (after[air] != grainy.scan.data[air]).mean() > 0.8


def test_new_tissue_gets_noise_as_strong_as_that_of_the_old(anatomy):
    grainy = noisy(anatomy)
    edit = mri_reface.plan(grainy, Params())
    deep = ndimage.binary_erosion(clear_tissue(anatomy, edit) & anatomy.head, iterations=2)
    quiet = apply_edit(anatomy.scan, mri_reface.plan(anatomy, Params())).data
    added = (apply_edit(grainy.scan, edit).data - quiet)[deep]
    assert deep.sum() > 1000
    spread = np.subtract(*np.percentile(added, [84, 16])) / 2
    assert spread == pytest.approx(NOISE, rel=0.35)


@pytest.mark.parametrize("sigma", [2.0, 20.0])
def test_tissue_noise_is_that_of_the_brain_not_its_structure(sigma):
    inside = phantom.ellipsoid((-3, -5, 15), (62, 76, 56))
    x, y, z = np.indices(phantom.SHAPE)
    clean = 300 + 3 * x - 2 * y + 0.1 * z**2
    data = clean + np.random.default_rng(5).normal(0, sigma, phantom.SHAPE)
    data[~inside] = 0
    assert tissue_noise(data.astype(np.float32), inside) == pytest.approx(sigma, rel=0.1)


def test_a_brain_too_small_to_tell_has_no_noise():
    brain = np.zeros((9, 8, 7), bool)
    brain[3:5, 3:5, 3:5] = True
    assert tissue_noise(np.random.default_rng(0).random(brain.shape, dtype=np.float32), brain) == 0


# The new face


@pytest.mark.parametrize("gain", [0.3, 1.0, 4.0])
def test_the_new_tissue_is_as_bright_as_the_old(anatomy, gain):
    scaled = average_head.anatomy(gain * anatomy.scan.data)
    edit = mri_reface.plan(scaled, Params())
    new = apply_edit(scaled.scan, edit).data[clear_tissue(anatomy, edit)]
    old = scaled.scan.data[clear_tissue(anatomy, edit) & anatomy.head]
    for share in (10, 25, 50, 75, 90):
        assert np.percentile(new, share) == pytest.approx(np.percentile(old, share), rel=0.12)


def test_the_new_tissue_follows_the_brightness_of_each_side(anatomy):
    x = np.arange(anatomy.scan.shape[0])[:, None, None]
    field = np.exp(0.5 * np.tanh((x - anatomy.scan.shape[0] / 2) / 8))
    shaded = average_head.anatomy((anatomy.scan.data * field).astype(np.float32))
    edit = mri_reface.plan(shaded, Params())
    even, after = apply_edit(anatomy.scan, mri_reface.plan(anatomy, Params())).data, apply_edit(shaded.scan, edit).data
    tissue = clear_tissue(anatomy, edit)
    left, right = tissue & (x < 22), tissue & (x > 37)
    for side, expected in ((left, np.exp(-0.5)), (right, np.exp(0.5))):
        assert np.median(after[side]) / np.median(even[side]) == pytest.approx(expected, rel=0.2)


def test_the_new_face_has_a_nose_with_air_before_it(anatomy, edit):
    after = apply_edit(anatomy.scan, edit).data
    assert (after[along_nose(anatomy, 100, 113)] > TISSUE).all()
    assert (after[along_nose(anatomy, 121, 127)] < TISSUE / 2).all()


def test_a_nose_that_was_cut_off_is_replaced_by_the_average_one(anatomy):
    flat = np.where(prior(anatomy, "features", order=0) == FEATURE_LABELS["nose"], 3, anatomy.scan.data)
    flat[:, np.flatnonzero(along_nose(anatomy, 97, 130).any(axis=(0, 2)))[0] :] = 3
    cut = average_head.anatomy(flat.astype(np.float32))
    assert not cut.head[along_nose(anatomy, 104, 113)].any()
    after = apply_edit(cut.scan, mri_reface.plan(cut, Params())).data
    assert (after[along_nose(anatomy, 104, 112)] > TISSUE).mean() > 0.9


def test_a_longer_nose_is_gone(anatomy):
    long = np.where(along_nose(anatomy, 100, 127), 160, anatomy.scan.data)
    stands_out = average_head.anatomy(long.astype(np.float32))
    assert stands_out.head[along_nose(anatomy, 119, 124)].any()
    after = apply_edit(stands_out.scan, mri_reface.plan(stands_out, Params())).data
    assert (after[along_nose(anatomy, 121, 127)] < TISSUE / 2).all()


def steps(anatomy, edit, data):
    """Differences of neighbours, median and worst tenth: kept and replaced ones, and kept ones near them."""
    new, kept = clear_tissue(anatomy, edit), anatomy.head & ~edit.mask
    around = kept & ndimage.binary_dilation(new, iterations=3)
    across, inside = [], []
    for axis in range(3):
        here, there = (
            tuple(s if a == axis else slice(None) for a in range(3)) for s in (slice(None, -1), slice(1, None))
        )
        difference = np.abs(data[here] - data[there])
        across.append(difference[(new[here] & kept[there]) | (kept[here] & new[there])])
        inside.append(difference[around[here] & around[there]])
    return tuple(np.percentile(np.concatenate(d), (50, 90)) for d in (across, inside))


def test_there_is_no_seam_where_new_tissue_meets_old(anatomy, edit):
    before, _ = steps(anatomy, edit, anatomy.scan.data)
    across, inside = steps(anatomy, edit, apply_edit(anatomy.scan, edit).data)
    assert (across < 1.2 * before).all()
    assert (across < 1.4 * inside).all()


def test_without_a_taper_there_is_a_seam(anatomy):
    edit = mri_reface.plan(anatomy, Params(taper_mm=0.0))
    before, _ = steps(anatomy, edit, anatomy.scan.data)
    across, inside = steps(anatomy, edit, apply_edit(anatomy.scan, edit).data)
    assert across[0] > 1.4 * before[0]
    assert across[0] > 1.5 * inside[0]


# The deformation


def shifted(mm: float):
    matrix = np.eye(4)
    matrix[1, 3] = mm
    return matrix


@pytest.mark.parametrize(
    ("first_mm", "refined_mm", "converged", "chosen_mm"),
    [(12.0, 0.0, True, 0.0), (0.0, 12.0, True, 0.0), (12.0, 0.0, False, 12.0)],
)
def test_the_start_that_fits_better_wins(anatomy, monkeypatch, first_mm, refined_mm, converged, chosen_mm):
    seen = []

    def stiff(fixed, moving, affine, **options):
        seen.append(options["mask"])
        return Warp(np.zeros((*fixed.data.shape, 3), np.float32), fixed.grid, affine)

    refined = AffineResult(shifted(refined_mm), 0.9, converged, "" if converged else "no", 12, 1)
    monkeypatch.setattr(registration, "register_deformable", stiff)
    monkeypatch.setattr(registration, "refine_affine", lambda fixed, moving, initial: refined)
    head = average_head.anatomy(
        registration=AffineResult(shifted(first_mm), 0.9, converged=True, reason="", dof=12, starts=1)
    )
    warp = find_best_warp(head)
    np.testing.assert_allclose(warp.affine, np.linalg.inv(shifted(chosen_mm)))
    assert len(seen) == 1 + converged


def test_the_face_does_not_drive_the_deformation(anatomy, monkeypatch):
    masks = []

    def stiff(fixed, moving, affine, **options):
        masks.append(options["mask"])
        return Warp(np.zeros((*fixed.data.shape, 3), np.float32), fixed.grid, affine)

    monkeypatch.setattr(registration, "register_deformable", stiff)
    monkeypatch.setattr(
        registration,
        "refine_affine",
        lambda *_: AffineResult(np.eye(4), 0.1, converged=False, reason="no", dof=12, starts=1),
    )
    find_best_warp(average_head.anatomy())  # an anatomy refines once
    (driving,) = masks
    labels = prior(anatomy, "features", order=0)
    assert driving[labels > 0].mean() < 0.02
    assert not driving[np.isin(labels, [FEATURE_LABELS["nose"], FEATURE_LABELS["mouth"]])].any()
    assert driving[anatomy.brain].mean() > 0.95


def test_the_deformation_follows_a_head_of_another_shape(monkeypatch):
    fit = registration.register_deformable
    monkeypatch.setattr(
        registration,
        "register_deformable",
        lambda *volumes, **options: fit(*volumes, **{**options, "iterations": "15x5"}),
    )
    usual = average_head.volume(4.0)
    index = np.indices(usual.data.shape).astype(float)
    index[1] += 1.5 * np.sin(np.pi * index[2] / usual.data.shape[2])
    bent = average_head.anatomy(ndimage.map_coordinates(usual.data, index, order=1).astype(np.float32), mm=4.0)
    warp = find_best_warp(bent)
    assert warp.grid.shape == bent.scan.shape
    before, after = (
        np.corrcoef(resample(usual, bent.scan.grid, w)[bent.head], bent.scan.data[bent.head])[0, 1]
        for w in (np.eye(4), warp)
    )
    assert after > before + 0.3 * (1 - before)
    displacement = np.linalg.norm(warp.displacement[bent.head], axis=-1)
    assert displacement.max() < 15


# Refusals


def test_the_average_head_must_be_found(anatomy):
    lost = average_head.anatomy(
        registration=AffineResult(np.eye(4), 0.1, converged=False, reason="the score is 0.1", dof=12, starts=1)
    )
    with pytest.raises(RegistrationError, match=r"the score is 0\.1"):
        mri_reface.plan(lost, Params())


def test_a_field_of_view_without_a_face_is_refused():
    away = average_head.anatomy(
        registration=AffineResult(shifted(500), 0.9, converged=True, reason="", dof=12, starts=1)
    )
    with pytest.raises(AnatomyError, match="face lies outside the scan's field of view; expected a whole head"):
        mri_reface.plan(away, Params())
