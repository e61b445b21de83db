"""Arrays come back as numpy wrote them; headers and directories that lie are refused before memory is given."""

import io
import zipfile

import numpy as np
import pytest

import state_dicts
from efface.errors import InputError
from efface.io.array_files import read_array, read_arrays


def arrays(path, *names, largest=10**6):
    return read_arrays(path, names, what="label prior", expected="levels", largest=largest)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_those_that_were_saved(tmp_path, save):
    given = {
        "a": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "b": np.asfortranarray(np.eye(3)),
        "c": np.float16([1, np.nan]), "d": np.array(True), "e": np.zeros((0, 3), ">i4"),
    }  # fmt: skip
    save(tmp_path / "x.npz", **given)
    found = arrays(tmp_path / "x.npz", *given)
    for name, array in given.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
        assert found[name].flags.writeable
    np.save(tmp_path / "x.npy", given["b"])
    np.testing.assert_array_equal(read_array(tmp_path / "x.npy", what="x", expected="y"), given["b"])


def objects():
    buffer = io.BytesIO()
    np.savez(buffer, levels=np.array([{}], dtype=object))
    return buffer.getvalue()


def lying():
    """A directory that says 100 bytes, over a stream of 50 MB."""
    raw = bytearray(state_dicts.packed([("levels.npy", bytes(50_000_000))], zipfile.ZIP_DEFLATED))
    for magic, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = raw.rindex(magic)
        raw[start + at : start + at + 4] = (100).to_bytes(4, "little")
    return bytes(raw)


HEADER = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}"
HOSTILE = {
    "a shape of terabytes": (
        state_dicts.array_file(header=HEADER.format("|u1", "(1000000, 1000000)")),
        "12 bytes follow",
    ),
    "a shape below zero": (state_dicts.array_file(header=HEADER.format("|u1", "(-3, -4)")), "no numbers"),
    "a shape that is deep": (state_dicts.array_file(header="(" * 110), "."),
    "objects": (objects(), "no numbers"),
    "text": (state_dicts.array_file(dtype="U3"), "no numbers"),
    "a bomb": (
        state_dicts.packed([("levels.npy", bytes(50_000_000))], zipfile.ZIP_DEFLATED),
        "would unpack to 50000000",
    ),
    "a directory that lies": (lying(), "."),
    "another name": (state_dicts.packed([("other.npy", b"")]), "levels.npy is missing"),
    "two of one name": (None, "two files of one name"),
    "thousands": (state_dicts.packed([(str(n), b"") for n in range(3000)]), "more than 2000 files"),
    "no array": (state_dicts.packed([("levels.npy", b"hello")]), "."),
    "a later format": (state_dicts.packed([("levels.npy", b"\x93NUMPY\x09\x00" + bytes(200))]), "format"),
    "no zip file": (b"hello", "not a zip file"),
    "empty": (b"", "not a zip file"),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_no_array_is_one_line(tmp_path, what):
    raw, reason = HOSTILE[what]
    path = tmp_path / "prior.npz"
    path.write_bytes(raw if raw is not None else state_dicts.packed([("levels.npy", b""), ("levels.npy", b"")]))
    with pytest.raises(
        InputError, match=rf"label prior .*prior\.npz cannot be read \(.*{reason}.*\): expected levels"
    ) as caught:
        arrays(path, "levels")
    assert str(caught.value).isprintable()
