"""Quality control on the average head: what was done to it is known."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import average_head
from efface import quality
from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.cli import main
from efface.errors import InputError
from efface.io.scan import load_scan
from efface.quality import QualityClass, brain, judge
from efface.simulation.mp2rage import simulate
from efface.spatial.masks import box_of
from efface.spatial.registration import AffineResult
from efface.spatial.resampling import resample


@pytest.fixture(scope="module")
def head():
    return average_head.anatomy()


@pytest.fixture(scope="module")
def mm(head):
    index = np.indices(head.scan.shape)
    return np.tensordot(head.scan.affine[:3, :3], index, 1) + head.scan.affine[:3, 3, None, None, None]


def without(head, mask, value=0):
    return made(head, np.where(mask, value, head.scan.data))


def made(head, data):
    return load_scan(nib.Nifti1Image(np.asarray(data, np.float32), head.scan.affine))


def feature(head, name, grow_mm=8.0):
    labels = resample(templates.prior("features"), head.scan.grid, order=0)
    mask = labels == templates.FEATURE_LABELS[name]
    return ndimage.distance_transform_edt(~mask, sampling=head.scan.spacing_mm) <= grow_mm


def face(mm):
    return (mm[1] > 45) & (mm[2] < -16 + 0.3 * (mm[1] - 95)) | (mm[1] > 102)


def ball(mm, centre, volume_ml):
    radius = (volume_ml * 1000 * 3 / (4 * np.pi)) ** (1 / 3)
    return np.linalg.norm(mm - np.array(centre)[:, None, None, None], axis=0) <= radius


def clear(head):
    return head.brain_distance_mm > 3.0


def test_an_untouched_face_is_failure_one_with_everything_left(head):
    verdict = judge(head, head.scan)
    assert verdict.verdict == QualityClass.FAILURE_I
    assert verdict.face.left == ("eyes", "nose", "mouth")
    assert verdict.face.changed == 0
    assert verdict.score == 1
    assert verdict.brain.edited_voxels == 0


@pytest.mark.parametrize("name", ["ears", "eyes", "nose", "mouth"])
def test_one_feature_gone_leaves_a_face(head, name):
    verdict = judge(head, without(head, feature(head, name) & clear(head)))
    assert verdict.verdict == QualityClass.FAILURE_I
    assert verdict.face.share(name) > 0.8
    assert name not in verdict.face.left
    assert set(verdict.face.left) == {"eyes", "nose", "mouth"} - {name}


def test_a_removed_face_is_a_success_though_the_ears_are_left(head, mm):
    verdict = judge(head, without(head, face(mm) & clear(head)))
    assert verdict.verdict == QualityClass.SUCCESS
    assert verdict.score < 0.2
    assert verdict.face.features["left ear"].left
    assert verdict.face.left == ()


@pytest.mark.parametrize(("side", "sign"), [("right", 1), ("left", -1)])
def test_half_a_face_is_a_face(head, mm, side, sign):
    verdict = judge(head, without(head, face(mm) & clear(head) & (sign * mm[0] < -2)))
    assert verdict.verdict == QualityClass.FAILURE_I
    assert verdict.face.by in ("", f"its {side} half")
    most = judge(head, without(head, face(mm) & clear(head) & (sign * mm[0] < 12)))
    assert most.verdict == QualityClass.FAILURE_I
    assert most.face.by == f"its {side} half"
    assert f"by its {side} half" in most.reason


def test_eyes_above_a_mask_are_a_face(head, mm):
    eyes = feature(head, "eyes", 16.0)
    verdict = judge(head, without(head, face(mm) & clear(head) & ~eyes))
    assert verdict.verdict == QualityClass.FAILURE_I
    assert (verdict.face.by, verdict.face.left) == ("both eyes", ("eyes",))


def test_a_layer_taken_off_the_skin_leaves_the_face(head, mm):
    depth = ndimage.distance_transform_edt(head.head, sampling=head.scan.spacing_mm)
    verdict = judge(head, without(head, face(mm) & clear(head) & (depth < 4.5)))
    assert verdict.face.changed > 0.4
    assert verdict.verdict == QualityClass.FAILURE_I
    assert "a layer was taken off" in verdict.face.by
    assert judge(head, without(head, face(mm) & clear(head) & (depth < 12))).verdict == QualityClass.SUCCESS


@pytest.mark.parametrize(
    ("centre", "where"), [((20, 62, 20), "frontal lobe, right"), ((-25, -52, -38), "cerebellum and brain stem, left")]
)
def test_a_bite_out_of_the_brain_is_failure_two_and_is_found(head, mm, centre, where):
    bite = ball(mm, centre, 2.0) & head.brain
    verdict = judge(head, without(head, face(mm) & clear(head) | bite))
    assert verdict.verdict == QualityClass.FAILURE_II
    assert verdict.brain.where == where
    np.testing.assert_allclose(verdict.brain.centre_mm, centre, atol=4)
    assert verdict.brain.edited_ml == pytest.approx(bite.sum() * np.prod(head.scan.spacing_mm) / 1000)
    assert not verdict.face.failed


def test_where_both_failures_hold_the_brain_is_named_first_and_the_face_too(head, mm):
    verdict = judge(head, without(head, ball(mm, (20, 62, 20), 2.0)))
    assert verdict.verdict == QualityClass.FAILURE_II
    assert verdict.face.failed
    assert verdict.reason.index("brain") < verdict.reason.index("face can be recognised")


def test_the_edge_of_the_brain_mask_does_not_count(head, mm):
    edge = head.brain & ~ndimage.binary_erosion(head.brain) & (mm[2] < 0) & (mm[1] > 40)
    verdict = judge(head, without(head, face(mm) & clear(head) | edge))
    assert verdict.brain.edited_ml > 1
    assert verdict.verdict == QualityClass.SUCCESS


def test_a_value_that_hardly_changes_is_no_damage(head, mm):
    verdict = judge(head, made(head, head.scan.data * np.where(face(mm) & clear(head), 0, 1.005)))
    assert verdict.verdict == QualityClass.SUCCESS
    assert verdict.brain.damaged_voxels == 0


def test_faint_noise_changes_neither_face_nor_brain_and_strong_noise_the_brain(head):
    noise = np.median(head.scan.data[head.brain]) * np.random.default_rng(0).standard_normal(head.scan.shape)
    assert judge(head, made(head, head.scan.data + 0.03 * noise)).verdict == QualityClass.FAILURE_I
    assert judge(head, made(head, head.scan.data + 0.3 * noise)).verdict == QualityClass.FAILURE_II


def test_another_face_laid_over_it_is_a_success(head, mm):
    """A replaced face: the same head, its face pulled 6 mm forward and rippled, as bright as before."""
    index = np.indices(head.scan.shape).astype(float)
    index[1] -= 2.0 * (1 + np.sin(mm[0] / 7) * np.cos(mm[2] / 9))
    other = ndimage.map_coordinates(head.scan.data, index, order=1)
    verdict = judge(head, made(head, np.where(face(mm) & clear(head), other, head.scan.data)))
    assert verdict.verdict == QualityClass.SUCCESS
    assert 0 < verdict.face.moved_mm("nose") < quality.verdict.VANISHED_MM


def test_another_scale_of_intensities_is_undone_and_warned_of(head, mm):
    data = np.where(face(mm) & clear(head), 0, 3.5 * head.scan.data + 20)
    verdict = judge(head, made(head, data))
    assert verdict.verdict == QualityClass.SUCCESS
    assert verdict.brain.damaged_voxels == 0
    assert any("intensities" in warning for warning in verdict.warnings)


@pytest.mark.parametrize(("slope", "inter"), [(1.0, -1000.0), (0.25, -1024.0), (4.0, 512.0)])
@pytest.mark.parametrize("cut", [True, False])
def test_the_level_of_air_changes_no_verdict(head, mm, slope, inter, cut):
    def moved(data):
        return made(head, np.asarray(data, np.float32) * np.float32(slope) + np.float32(inter))

    after = np.where(face(mm) & clear(head) & cut, 0, head.scan.data)
    other = HeadAnatomy(moved(head.scan.data), brain=head.brain, registration=head.registration)
    expected, verdict = judge(head, made(head, after)), judge(other, moved(after))
    assert verdict.verdict == expected.verdict == (QualityClass.SUCCESS if cut else QualityClass.FAILURE_I)
    assert verdict.score == pytest.approx(expected.score, abs=1e-3)
    assert verdict.surface_threshold == pytest.approx(expected.surface_threshold * slope, rel=1e-4)
    assert verdict.brain.edited_voxels == expected.brain.edited_voxels


def test_zeros_in_air_below_zero_are_a_cast_of_the_face(head, mm):
    """What other programs leave of a scaled file: in the place of skin and lips a solid as bright as tissue."""
    air, tissue = -200.0, head.scan.data > 60
    sharp = np.where(tissue, np.maximum(head.scan.data, 150), 0) + air
    other = HeadAnatomy(made(head, sharp), brain=head.brain, registration=head.registration)
    cut = face(mm) & tissue & clear(head)
    assert judge(other, made(head, np.where(cut, 0, sharp))).verdict == QualityClass.FAILURE_I
    assert judge(other, made(head, np.where(cut, air, sharp))).verdict == QualityClass.SUCCESS


def test_a_uniform_image_is_judged_though_its_air_is_noise(head, mm):
    made_by_scanner = simulate(head.scan.data, 400.0, 25.0, np.random.default_rng(2)).uni
    uni = load_scan(nib.Nifti1Image(made_by_scanner, head.scan.affine))
    anatomy = HeadAnatomy(uni, brain=head.brain, registration=head.registration)
    whole = judge(anatomy, uni)
    assert whole.verdict == QualityClass.FAILURE_I
    assert whole.face.left == ("eyes", "nose", "mouth")
    cut = np.where(face(mm) & clear(head), 0, uni.data)
    assert judge(anatomy, made(head, cut)).verdict == QualityClass.SUCCESS


STORED_AGAIN = {
    "as int16 with a scale": (np.int16, 0.37, 0.0),
    "as uint8 with a scale": (np.uint8, 4.1, 0.0),
    "as int16 with scale and intercept": (np.int16, 0.6, -50.0),
    "cut off instead of rounded": (np.int16, 1.7, 0.0),
    "as floating point": (np.float32, 1.0, 0.0),
}


@pytest.mark.parametrize("case", STORED_AGAIN)
def test_storing_again_edits_no_brain_and_one_changed_voxel_is_counted(head, case):
    dtype, slope, inter = STORED_AGAIN[case]
    numbers = (head.scan.data.astype(np.float64) - inter) / slope
    whole = np.floor(numbers) if case.startswith("cut off") else np.rint(numbers) if dtype != np.float32 else numbers
    bite = tuple(np.argwhere(head.brain & (head.scan.data > 200))[1000])
    changed = whole.copy()
    changed[bite] = 0
    verdicts = []
    for values in (whole, changed):
        image = nib.Nifti1Image(values.astype(dtype), head.scan.affine)
        if dtype != np.float32:
            image.header.set_slope_inter(slope, inter)
        verdicts.append(judge(head, load_scan(image.__class__.from_bytes(image.to_bytes()))))
    assert verdicts[0].brain.edited_voxels == 0
    assert verdicts[1].brain.edited_voxels == 1


def test_between_files_that_store_alike_the_least_change_counts(head):
    stored = head.scan.stored.copy()
    stored[tuple(np.argwhere(head.scan.ras_to_stored(head.brain))[500])] += 1
    assert judge(head, head.scan.with_stored(stored)).brain.edited_voxels == 1


def test_what_was_cropped_away_counts_as_removed(head, mm):
    cropped = nib.Nifti1Image(np.where(face(mm) & clear(head), 0, head.scan.data), head.scan.affine)
    verdict = judge(head, load_scan(cropped.slicer[:, 6:, 4:-3]))
    assert verdict.verdict == QualityClass.SUCCESS
    assert any("field of view" in warning for warning in verdict.warnings)
    whole = nib.Nifti1Image(head.scan.data, head.scan.affine)
    lost = judge(head, load_scan(whole.slicer[:, :, :45]))
    assert lost.verdict == QualityClass.FAILURE_II


def test_another_grid_is_refused_with_both_grids_in_the_message(head):
    affine = head.scan.affine.copy()
    affine[0, 3] += 1.3
    with pytest.raises(InputError, match=r"must lie on the grid.*resample"):
        judge(head, load_scan(nib.Nifti1Image(head.scan.data, affine)))


def test_another_orientation_of_the_same_grid_is_none(head, mm):
    scan = without(head, face(mm) & clear(head))
    image = nib.Nifti1Image(scan.data, scan.affine)
    turned = image.as_reoriented(nib.orientations.axcodes2ornt("PIR"))
    assert judge(head, load_scan(turned)).to_json() == judge(head, scan).to_json()


def test_another_head_is_refused(head):
    with pytest.raises(InputError, match="made from the first"):
        judge(head, made(head, np.random.default_rng(0).permuted(head.scan.data)))


def test_an_original_without_a_face_says_that_only_the_brain_was_judged(head, mm):
    gone = without(head, (mm[1] > 20) & (mm[2] < 20) & clear(head))
    before = average_head.anatomy(gone.data)
    verdict = judge(before, before.scan)
    assert verdict.face.changed is None or not verdict.face.failed
    assert verdict.verdict == QualityClass.SUCCESS


def test_evidence_is_json(head):
    content = json.loads(json.dumps(judge(head, head.scan).to_json()))
    assert content["verdict"] == "Failure I"
    assert set(content["face"]["features"]) == {part for parts in quality.FACE_FEATURES.values() for part in parts}
    assert np.shape(content["from_average"]) == (4, 4)
    assert content["surface_threshold"] > 0


@pytest.fixture
def files(head, mm, tmp_path, monkeypatch):
    found = AffineResult(np.eye(4), 0.9, converged=True, reason="", dof=12, starts=1)
    monkeypatch.setattr("efface.anatomy.head_anatomy.brain_mask", lambda data: head.brain)
    monkeypatch.setattr("efface.anatomy.head_anatomy.find_pose", lambda *args, **kwargs: found)
    for name, data in (("a", head.scan.data), ("b", np.where(face(mm) & clear(head), 0, head.scan.data))):
        nib.save(nib.Nifti1Image(data, head.scan.affine), tmp_path / f"{name}.nii.gz")
    return tmp_path


def test_the_command_prints_the_verdict_first_and_writes_the_evidence(files, capsys):
    a, b, out = (str(files / name) for name in ("a.nii.gz", "b.nii.gz", "v.json"))
    assert main(["qc", a, b, "--json", out]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "Success"
    assert "left eye" in printed
    assert json.loads((files / "v.json").read_text())["verdict"] == "Success"
    assert main(["qc", a, a]) == 0
    assert capsys.readouterr().out.startswith("Failure I\n")


def test_the_command_refuses_bad_input_with_code_two(files, capsys):
    a = str(files / "a.nii.gz")
    assert main(["qc", a, str(files / "none.nii.gz")]) == 2
    assert main(["qc", a, a, "--json", a]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 2


def test_python_calls_it_by_name(files):
    import efface

    assert efface.qc(files / "a.nii.gz", files / "b.nii.gz").verdict == "Success"


def test_verdicts_are_frozen(head):
    verdict = judge(head, head.scan)
    with pytest.raises(AttributeError):
        verdict.score = 0
    assert replace(verdict, score=0.0).score == 0


def test_depths_of_few_voxels_and_of_all_are_the_same(head, monkeypatch):
    inside = head.brain[box_of(head.brain)]
    chosen = inside & (np.random.default_rng(0).random(inside.shape) < 0.02)
    assert 100 < chosen.sum() <= brain.FEW
    reference = brain.BrainReference(head)
    asked = reference.depth_mm(chosen)
    monkeypatch.setattr(brain, "FEW", 0)
    np.testing.assert_allclose(asked, reference.depth_mm(chosen), atol=1e-5)
