"""A small BIDS data set of phantoms, and a stand-in for the slow steps of a study."""

import json
from pathlib import Path

import numpy as np
import pytest

import phantom
from efface.quality import (
    FACE_FEATURES,
    BrainEvidence,
    FaceEvidence,
    FeatureEvidence,
    QualityClass,
    Verdict,
)
from efface.segmentation.labels import Labels, Provenance
from efface.spatial.registration import AffineResult
from efface.study import Settings, Study

SCANS = ("sub-01/ses-1", "sub-01/ses-2", "sub-02/ses-1")


def make(root: Path, scans=SCANS) -> Path:
    """Phantoms at ``sub-*/ses-*`` or ``sub-*``, stored in different orientations."""
    root.mkdir(parents=True)
    description = {"Name": "phantoms", "BIDSVersion": "1.10.0"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    for place, orientation in zip(scans, ("LPS", "RAS", "PSR", "LAS"), strict=False):
        folder = root / place / "anat"
        folder.mkdir(parents=True)
        phantom.write(folder / f"{place.replace('/', '_')}_T1w.nii.gz", orientation)
    return root


def untouched(_anatomy, _defaced) -> Verdict:
    """A verdict that costs nothing."""
    brain = BrainEvidence(False, 0.0, 0.0, 0, 0.0, 0, 0.0, "", None, None)
    nothing = FeatureEvidence(None, None, None, 0.0, None)
    parts = {part: nothing for parts in FACE_FEATURES.values() for part in parts}
    face = FaceEvidence(False, 0.0, None, (), parts)
    return Verdict(QualityClass.SUCCESS, 0.0, "a stand-in", brain, face, np.eye(4), 1.0)


def stand_in(monkeypatch, *, judged: bool = False) -> list[str]:
    """Brain, pose and features of the phantom as known, and a segmentation by intensity; returns what was segmented.

    Quality control is real only where `judged`.
    """
    truth = phantom.head()
    done = []

    def segment(anatomy, name="atlas", params=None):
        done.append(str(anatomy.scan.path))
        values = np.where(anatomy.brain, np.where(anatomy.scan.data > np.median(anatomy.scan.data), 44, 45), 0)
        return Labels(values.astype(np.int32), (), Provenance(name, "0", {}))

    affine = AffineResult(np.eye(4), 0.9, converged=True, reason="", dof=12, starts=1)
    monkeypatch.setattr("efface.study.segmentations.segment", segment)
    if not judged:
        monkeypatch.setattr("efface.quality.Judge.verdict", untouched)
    monkeypatch.setattr("efface.anatomy.head_anatomy.brain_mask", lambda data: truth.brain)
    for search in ("register_affine", "refine_affine"):
        monkeypatch.setattr(f"efface.spatial.registration.{search}", lambda *args, **kwargs: affine)
    monkeypatch.setattr("efface.anatomy.head_anatomy.find_pose", lambda *args, **kwargs: affine)
    phantom.see_nothing(monkeypatch)
    phantom.give_landmarks(monkeypatch)
    monkeypatch.setattr("efface.spatial.registration.register_deformable", phantom.no_warp)
    phantom.simple_reshape(monkeypatch)
    return done


def run_study(settings: Settings) -> None:
    """Run a study to its tables with the stand-ins, in whatever process this is, and without worker processes."""
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch)
        patch.setattr("efface.study.run._outcomes", lambda _executor, jobs: (job.run() for job in jobs))
        study = Study(settings)
        study.run()
        study.tables()
