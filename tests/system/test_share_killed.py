"""`efface share` killed at fifty moments: no undefaced image is in the shared data set, under any name, at any time."""

import multiprocessing
import os
import signal
import time
import zlib

import nibabel as nib
import numpy as np
import pytest

import phantom
import raw_data_set
from efface.share import ShareSettings, share
from efface.study.backends import Local

MOMENTS = 50


def run(raw, out):
    with pytest.MonkeyPatch.context() as patch:
        raw_data_set.stand_in(patch)
        share(ShareSettings(raw, out), backend=Local(1))


def unpacked(data: bytes) -> bytes:
    """What a file holds, as far as it was written."""
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return zlib.decompressobj(31).decompress(data)
    except zlib.error:
        return data


def make_faces_known(raw) -> set[bytes]:
    """Put noise where the faces are, and return stretches of it as they are stored: they are nowhere else."""
    rng = np.random.default_rng(1)
    face = np.zeros(phantom.SHAPE, bool)
    face[raw_data_set.FACE] = True
    lines = set()
    for path in sorted(raw.glob("sub-*/**/*.nii.gz")):
        if not path.is_file():
            continue
        image = nib.load(path)
        values = np.asarray(image.dataobj).copy()
        where = phantom.reorient(face, "".join(nib.aff2axcodes(image.affine)))
        values[where] = rng.integers(0, 250, values[where].shape)
        nib.save(nib.Nifti1Image(values, image.affine, image.header), path)
        volume = values if values.ndim == 3 else values[..., 2]
        places = np.argwhere(where[0])
        lines |= {volume[:, j, k].tobytes() for j, k in places[:: len(places) // 8]}
    return lines


@pytest.mark.slow
def test_no_undefaced_image_is_there_whenever_the_run_is_killed(tmp_path):
    raw = raw_data_set.make(tmp_path / "raw")
    undefaced = make_faces_known(raw)
    assert len(undefaced) >= 5 * 8
    assert all(
        any(line in unpacked(p.read_bytes()) for p in raw.rglob("sub*.nii.gz") if p.is_file()) for line in undefaced
    )
    out = tmp_path / "whole"
    start = time.perf_counter()
    run(raw, out)
    seconds = time.perf_counter() - start
    rng = np.random.default_rng(2022)
    fork = multiprocessing.get_context("fork")
    killed = 0
    for number in range(MOMENTS):
        out = tmp_path / f"out{number % 5}"  # five folders, killed ten times each: a run goes on where one was killed
        process = fork.Process(target=run, args=(raw, out))
        process.start()
        time.sleep(float(rng.uniform(0, seconds)))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.join()
        for path in out.rglob("*"):
            if path.is_file():
                data = unpacked(path.read_bytes())
                assert not any(line in data for line in undefaced), path
    assert killed > MOMENTS / 4
    run(raw, tmp_path / "out0")
    mine, whole = (
        {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"}
        for folder in (tmp_path / "out0", tmp_path / "whole")
    )
    assert mine == whole
