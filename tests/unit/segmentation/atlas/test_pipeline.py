"""The atlas segmenter as a whole, on a phantom made from the atlas itself."""

from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from development_heads import HEADS
from efface.anatomy.templates import braincolor_labels
from efface.errors import AnatomyError, InputError, RegistrationError
from efface.segmentation import SEGMENTERS, Labels, Provenance, segment
from efface.segmentation.atlas.atlas_prior import load_prior
from efface.segmentation.brain_alignment import AVERAGE_TO_TEMPLATE
from efface.segmentation.labels import LABEL_IDS, REGIONS
from efface.spatial.point_sampling import sample_labels
from efface.spatial.resampling import resample
from efface.spatial.types import Grid, Volume

QUICK = {"iterations": "20x10x0"}


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def anatomy_of(volume, brain, to_template):
    scan = SimpleNamespace(
        volume=volume, data=volume.data, affine=volume.affine, shape=volume.data.shape,
        spacing_mm=volume.grid.spacing_mm,
    )  # fmt: skip
    average_to_scan = np.linalg.inv(to_template) @ AVERAGE_TO_TEMPLATE
    return SimpleNamespace(
        scan=scan, image=volume, brain=brain, average_to_scan=average_to_scan, shows_brain_alone=False
    )


def phantom(turn_deg=0.0, mm=2.2):
    """The atlas's own tissues as a noisy, biased scan on a turned grid; its brain mask; its labels without fluid."""
    prior = load_prior()
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec(np.deg2rad(turn_deg) * np.array([0.6, 0.64, -0.48])).as_matrix()
    turn[:3, 3] = [30, -20, 10]
    n = np.array([95, 110, 100])
    affine = np.diag([mm, mm, mm, 1.0])
    affine[:3, 3] = -mm * (n - 1) / 2 + [0, -18, 10]
    scan_affine = turn @ affine  # template mm to scan mm is `turn`
    rng = np.random.default_rng(7)
    grid = Grid((95, 110, 100), affine)
    image = resample(prior.template, grid)
    brain = ndimage.binary_fill_holes(image > 0.02)
    bias = np.exp(0.2 * np.linspace(-1, 1, 110, dtype=np.float32))[None, :, None]
    noisy = (500 * bias * (image + rng.normal(0, 0.02, image.shape))).astype(np.float32)
    labels, volume = braincolor_labels()
    index = np.stack(np.meshgrid(*[np.arange(k) for k in grid.shape], indexing="ij"), -1).reshape(-1, 3)
    points = index @ affine[:3, :3].T + affine[:3, 3]
    truth = sample_labels(labels, volume.affine, points).reshape(grid.shape)
    truth[(image < 0.35) & ~np.isin(truth, REGIONS["ventricles"])] = 0
    return Volume(noisy, scan_affine), brain, truth, np.linalg.inv(turn)


@pytest.fixture(scope="module")
def upright():
    volume, brain, truth, to_template = phantom()
    labels = segment(anatomy_of(volume, brain, to_template), "atlas", QUICK)
    return volume, brain, truth, to_template, labels


@pytest.mark.slow
def test_the_atlas_is_found_in_its_own_image(upright):
    _, _, truth, _, labels = upright
    assert dice(truth > 0, labels.values > 0) > 0.93
    scores = {i: dice(truth == i, labels.values == i) for i in LABEL_IDS}
    assert np.mean(list(scores.values())) > 0.75
    assert all(scores[i] > 0.8 for i in (*REGIONS["thalamus"], *REGIONS["putamen"], 51, 52, 35)), scores


def test_labels_have_the_scan_shape_and_stay_inside_the_brain(upright):
    volume, brain, _, _, labels = upright
    assert labels.values.shape == volume.data.shape
    assert labels.values.dtype == np.int32
    assert not labels.values[~brain].any()
    assert set(np.unique(labels.values).tolist()) <= {0, *LABEL_IDS}
    assert labels.provenance.segmenter == "atlas"
    assert labels.provenance.params["iterations"] == QUICK["iterations"]


def test_the_same_scan_gives_the_same_labels(upright):
    volume, brain, _, to_template, labels = upright
    again = segment(anatomy_of(volume, brain, to_template), "atlas", QUICK)
    np.testing.assert_array_equal(again.values, labels.values)


def test_a_turned_head_gets_the_same_labels(upright):
    volume, brain, _, to_template, labels = upright
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [20, -15, 35], degrees=True).as_matrix()
    turned = Volume(volume.data, turn @ volume.affine)
    found = segment(anatomy_of(turned, brain, to_template @ np.linalg.inv(turn)), "atlas", QUICK)
    assert np.mean(found.values == labels.values) > 0.99


def test_a_wrong_start_is_searched_anew(upright):
    volume, brain, _, to_template, labels = upright
    upside_down = np.diag([-1.0, 1.0, -1.0, 1.0])
    found = segment(anatomy_of(volume, brain, upside_down @ to_template), "atlas", QUICK)
    assert dice(found.values == 57, labels.values == 57) > 0.9


def test_head_that_was_not_found_is_a_warning_and_the_brain_is_searched(upright):
    volume, brain, _, _, labels = upright

    class Lost:
        scan = anatomy_of(volume, brain, np.eye(4)).scan
        image = volume
        shows_brain_alone = False

        def __init__(self):
            self.brain = brain

        @property
        def average_to_scan(self):
            msg = "not converged"
            raise RegistrationError(msg)

    found = segment(Lost(), "atlas", QUICK)
    assert any("not converged" in w for w in found.warnings)
    assert dice(found.values == 57, labels.values == 57) > 0.9


def test_unknown_parameter_is_refused():
    with pytest.raises(InputError, match=r"has no parameter iteration; expected iterations, radius, agreement"):
        segment(SimpleNamespace(), "atlas", {"iteration": 3})


@pytest.mark.parametrize(
    ("name", "value"),
    [("radius", "half"), ("radius", 2.5), ("iterations", "many"), ("iterations", "3x"), ("agreement", -1)],
)
def test_a_parameter_that_cannot_be_used_is_refused(name, value):
    with pytest.raises(InputError, match=f"the segmenter atlas: {name} must be .*; received {value}"):
        segment(SimpleNamespace(), "atlas", {name: value})


def test_a_whole_number_may_be_written_with_a_point(monkeypatch):
    seen = []

    def run(_anatomy, params):
        seen.append(params.radius)
        return Labels(np.zeros((4, 4, 4), np.int32), (), Provenance("atlas", "0"))

    monkeypatch.setattr("efface.segmentation.SEGMENTERS", {"atlas": replace(SEGMENTERS["atlas"], run=run)})
    segment(SimpleNamespace(scan=SimpleNamespace(spacing_mm=np.ones(3))), "atlas", {"radius": "3.0"})
    assert seen == [3]


def test_empty_brain_is_an_anatomy_error(upright):
    volume, brain, _, to_template, _ = upright
    with pytest.raises(AnatomyError, match="0 ml cannot be a brain"):
        segment(anatomy_of(volume, np.zeros_like(brain), to_template), "atlas")


@pytest.mark.parametrize("what", ["noise", "inverted contrast"])
def test_what_is_no_t1_brain_is_a_registration_error_not_garbage(upright, what):
    volume, brain, _, to_template, _ = upright
    if what == "noise":
        data = np.random.default_rng(0).random(volume.data.shape, dtype=np.float32)
    else:
        data = (volume.data.max() - volume.data).astype(np.float32)
    with pytest.raises(RegistrationError, match=r"BrainCOLOR template.*T1-weighted"):
        segment(anatomy_of(replace(volume, data=data), brain, to_template), "atlas", QUICK)


@pytest.mark.heads
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.load:DeprecationWarning")
@pytest.mark.skipif(not HEADS.is_dir(), reason="needs the development heads in ../shared/data")
@pytest.mark.parametrize("subject", ["sub-13"])
def test_development_heads_agree_with_their_reference(subject):
    from efface.anatomy.head_anatomy import HeadAnatomy
    from efface.io.scan import load_scan

    labels = segment(HeadAnatomy(load_scan(HEADS / subject / f"anat/{subject}_T1w.nii.gz")), "atlas")
    path = HEADS / f"derivatives/dlmuse/{subject}/anat/{subject}_desc-dlmuse_dseg.nii.gz"
    reference = np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)
    assert dice(reference > 0, labels.values > 0) > 0.95
    assert np.mean([dice(reference == i, labels.values == i) for i in LABEL_IDS]) > 0.72
