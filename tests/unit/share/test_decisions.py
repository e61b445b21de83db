"""What becomes of one image: it is shared only where everything that looks at it agrees. It fails closed."""

import nibabel as nib
import numpy as np
import pytest

import average_head
import phantom
import raw_data_set
from efface.defacing import Edit
from efface.errors import AnatomyError, InputError, NothingToRemoveError, RegistrationError, StrippedError
from efface.quality import SingledOut
from efface.quality.left_face import FaceAnswer, LeftFace
from efface.share import decisions, publish
from efface.share.decisions import Decision, Reference
from efface.share.head_image import HeadImage, are_one_acquisition, open_image
from efface.share.inventory import Found, Kind
from efface.share.records import Became
from efface.spatial.types import Volume

CLEAN = LeftFace(FaceAnswer.NO_FACE, 0.1, (), "nothing left")


def found(name, folder="sub-01/anat"):
    return Found(f"{folder}/{name}", Kind.IMAGE)


def image(tmp_path, name, folder="sub-01/anat", **options):
    raw_data_set.write_image(tmp_path / folder / name, **options)
    return open_image(tmp_path, found(name, folder))


@pytest.fixture
def head():
    return HeadImage(found("sub-01_T1w.nii.gz"), None, average_head.anatomy().scan, None)


@pytest.fixture
def checks(monkeypatch, head):
    """Checks that pass; a test sets one of them otherwise."""
    anatomy = average_head.anatomy()
    mask = np.zeros(anatomy.scan.shape, bool)
    mask[:, 50:, :30] = True

    class Checks:
        plan = Edit(mask, 0.0, "pydeface")
        judged = type("Judged", (), {"verdict": decisions.QualityClass.SUCCESS, "warnings": (), "reason": "",
                                     "singled_out": SingledOut(3, 1001, ""),
                                     "to_json": lambda self: {"verdict": "Success",
                                                              "singled_out": {"rank": 3, "among": 1001}}})()  # fmt: skip
        left = CLEAN
        contradiction = ""

    def answer(name):
        def give(*_args, **_options):
            value = getattr(Checks, name)
            if isinstance(value, Exception):
                raise value
            return value

        return give

    monkeypatch.setattr(decisions, "HeadAnatomy", lambda scan, brain=None, registration=None: anatomy)
    monkeypatch.setattr(decisions, "plan", answer("plan"))
    monkeypatch.setattr(decisions, "judged_among_faces", answer("judged"))
    monkeypatch.setattr(decisions, "find_left_face", answer("left"))
    monkeypatch.setattr(decisions, "contradiction", answer("contradiction"))
    monkeypatch.setattr(decisions, "register_to_scan", lambda *_: np.eye(4))
    monkeypatch.setattr(decisions, "carried_edit", lambda edit, *_args, **_options: edit)
    return Checks


def decided(head):
    return decisions.decide_reference(head, "pydeface", {})[1]


def carried(head, edit):
    reference = Reference(head, average_head.anatomy(), Decision(Became.DEFACED, edit=edit))
    return decisions.decide_carried(head, reference)


def test_where_all_checks_pass_the_image_is_defaced(head, checks):
    for decision in (decided(head), carried(head, checks.plan)):
        assert (decision.outcome, decision.verdict) == (Became.DEFACED, "Success")
        assert decision.edit is checks.plan
        assert decision.evidence["quality"]["singled_out"]["rank"] == 3


@pytest.mark.parametrize(
    ("check", "value", "reason"),
    [
        ("left", LeftFace(FaceAnswer.FACE, 0.9, ("nose",), "the nose is left"), "the nose is left"),
        ("left", LeftFace(FaceAnswer.CANNOT_TELL, float("nan"), (), "no pose"), "cannot tell"),
        ("judged", AnatomyError("no brain"), "cannot judge it: no brain"),
        ("judged", RegistrationError("no pose"), "cannot judge it: no pose"),
        ("judged", InputError("other grid"), "cannot judge it: other grid"),
    ],
)
def test_what_one_check_doubts_is_withheld(head, checks, check, value, reason):
    setattr(checks, check, value)
    for decision in (decided(head), carried(head, checks.plan)):
        assert decision.outcome is Became.WITHHELD
        assert reason in decision.reason


@pytest.mark.parametrize("verdict", ["FAILURE_I", "FAILURE_II"])
def test_a_failure_is_withheld(head, checks, verdict):
    checks.judged.__class__.verdict = decisions.QualityClass[verdict]
    decision = decided(head)
    assert (decision.outcome, decision.verdict) == (Became.WITHHELD, decisions.QualityClass[verdict].value)


def test_an_average_face_is_no_face(head, checks):
    checks.left = LeftFace(FaceAnswer.AVERAGE_FACE, 0.9, ("nose",), "the average one")
    assert decided(head).outcome is Became.DEFACED


@pytest.mark.parametrize("error", [RegistrationError("no pose"), AnatomyError("no brain"), InputError("odd")])
def test_an_image_that_cannot_be_defaced_is_withheld(head, checks, error):
    checks.plan = error
    decision = decided(head)
    assert (decision.outcome, decision.reason, decision.edit) == (Became.WITHHELD, str(error), None)


@pytest.mark.parametrize("error", [NothingToRemoveError("nothing to remove"), StrippedError("stripped")])
def test_two_things_must_say_that_an_image_shows_no_face(head, checks, error):
    checks.plan = error
    assert decided(head).outcome is Became.COPIED
    checks.left = LeftFace(FaceAnswer.CANNOT_TELL, float("nan"), (), "no pose")
    assert decided(head).outcome is Became.WITHHELD


def test_an_image_outside_the_edit_is_copied_only_where_no_face_is_found_in_it(head, checks):
    empty = Edit(np.zeros(head.scan.shape, bool), 0.0, "pydeface")
    assert carried(head, empty).outcome is Became.COPIED
    checks.left = LeftFace(FaceAnswer.FACE, 0.9, ("nose",), "the nose is left")
    assert carried(head, empty).outcome is Became.WITHHELD


def test_an_edit_in_a_place_that_the_tissue_contradicts_is_withheld(head, checks):
    checks.contradiction = "30 mm apart"
    decision = carried(head, checks.plan)
    assert decision.outcome is Became.WITHHELD
    assert "30 mm apart" in decision.reason


def test_the_pose_network_contradicts_a_pose_that_is_wrong():
    from efface.anatomy.head_pose import contradiction
    from efface.anatomy.pose_network import predict

    seen = predict(average_head.volume())
    assert contradiction(seen, np.eye(4)) == ""
    moved = np.eye(4)
    moved[1, 3] = 60.0
    assert "mm apart" in contradiction(seen, moved)
    assert contradiction(predict(Volume(np.zeros((40, 40, 40), np.float32), np.diag([4.0, 4, 4, 1]))), moved) == ""


def test_the_reference_is_the_first_of_the_order_then_the_finest(tmp_path):
    names = ("sub-01_FLAIR", "sub-01_T2w", "sub-01_run-2_T1w", "sub-01_run-1_T1w", "sub-01_inv-2_MP2RAGE",
             "sub-01_inv-1_MP2RAGE", "sub-01_part-phase_T1w", "sub-01_T1map", "sub-01_UNIT1")  # fmt: skip
    images = [image(tmp_path, f"{name}.nii.gz") for name in names]
    images.append(image(tmp_path, "sub-01_task-a_bold.nii.gz", "sub-01/func", volumes=3))
    fine = image(tmp_path, "sub-01_run-3_T1w.nii.gz")
    values = np.kron(fine.scan.data.astype(np.int16), np.ones((2, 2, 2), np.int16))
    affine = fine.scan.affine @ np.diag([0.5, 0.5, 0.5, 1])
    nib.save(nib.Nifti1Image(values, affine), fine.path)
    images.append(open_image(tmp_path, fine.found))
    order = [one.found.name.removesuffix(".nii.gz") for one in decisions.in_order(images)]
    assert order == [
        "sub-01_run-3_T1w", "sub-01_run-1_T1w", "sub-01_run-2_T1w", "sub-01_UNIT1", "sub-01_inv-2_MP2RAGE",
        "sub-01_T2w", "sub-01_FLAIR", "sub-01_inv-1_MP2RAGE",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("sub-01_part-phase_bold", "sub-01_part-mag_bold", True),
        ("sub-01_echo-1_MEGRE", "sub-01_echo-2_MEGRE", True),
        ("sub-01_inv-1_MP2RAGE", "sub-01_UNIT1", True),
        ("sub-01_phasediff", "sub-01_magnitude1", True),
        ("sub-01_run-1_T1w", "sub-01_run-2_T1w", False),
        ("sub-01_T1w", "sub-01_T2w", False),
        ("sub-01_acq-a_inv-1_MP2RAGE", "sub-01_UNIT1", False),
    ],
)
def test_images_of_one_acquisition_are_told_by_their_names(a, b, same):
    assert are_one_acquisition(found(f"{a}.nii.gz"), found(f"{b}.nii.gz")) is same
    assert not are_one_acquisition(found(f"{a}.nii.gz"), found(f"{a}.nii.gz", "sub-01/fmap"))


def test_a_part_takes_the_edit_of_its_magnitude_on_the_same_grid_only(tmp_path):
    magnitude = image(tmp_path, "sub-01_part-mag_T2starw.nii.gz")
    phase = image(tmp_path, "sub-01_part-phase_T2starw.nii.gz")
    decision = Decision(Became.DEFACED, "", "Success", raw_data_set.face_edit(magnitude.scan))
    given = decisions.decide_with(phase, [(magnitude, decision)])
    assert given.outcome is Became.DEFACED
    assert np.array_equal(given.edit.mask, decision.edit.mask)
    withheld = decisions.decide_with(phase, [(magnitude, Decision(Became.WITHHELD, "a face"))])
    assert withheld.outcome is Became.WITHHELD
    nib.save(nib.Nifti1Image(np.asarray(phantom.head().values)[:, :-2], phantom.head().affine), phase.path)
    assert decisions.decide_with(open_image(tmp_path, phase.found), [(magnitude, decision)]) is None


def test_a_fingerprint_changes_with_image_and_edit(tmp_path):
    one = image(tmp_path, "sub-01_T1w.nii.gz")
    edit = raw_data_set.face_edit(one.scan)
    other = Edit(~edit.mask, 0.0, "pydeface")
    prints = [decisions.fingerprint(one, Decision(Became.DEFACED, edit=e)) for e in (edit, edit, other, None)]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


@pytest.mark.parametrize(
    ("found", "cell"),
    [({"rank": 432, "among": 1001}, "432"), ({"rank": None, "reason": "nothing is left"}, "n/a"), (None, "")],
)
def test_the_table_has_the_number_of_the_person(found, cell):
    assert publish._person_rank({"quality": {"singled_out": found}} if found else {"quality": {}}) == cell
