"""`efface share` killed at fifty moments: no undefaced image is in the shared data set, under any name, at any time."""

import zlib

import nibabel as nib
import numpy as np
import pytest

import phantom
import raw_data_set
from killed import is_killed, writes

MOMENTS = 50


def unpacked(data: bytes) -> bytes:
    """What a file holds, as far as it was written."""
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return zlib.decompressobj(31).decompress(data)
    except zlib.error:
        return data


def version_of(path) -> tuple:
    """What is another one after every write."""
    found = path.stat()
    return path, found.st_ino, found.st_size, found.st_mtime_ns


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
    events = writes(raw_data_set.share_all, raw, tmp_path / "whole")
    rng = np.random.default_rng(2022)
    killed, searched = 0, set()
    while killed < MOMENTS:
        out = tmp_path / f"out{killed // 10}"  # killed ten times each: a run goes on where one was killed
        killed += is_killed(int(rng.integers(1, events + 1)), raw_data_set.share_all, raw, out)
        for path in out.rglob("*"):
            if path.is_file() and (version := version_of(path)) not in searched:
                data = unpacked(path.read_bytes())
                assert not any(line in data for line in undefaced), path
                searched.add(version)
    raw_data_set.share_all(raw, tmp_path / "out0")
    mine, whole = (
        {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"}
        for folder in (tmp_path / "out0", tmp_path / "whole")
    )
    assert mine == whole
