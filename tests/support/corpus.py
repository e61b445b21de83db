"""More than 200 malformed or hostile inputs, each of which must be refused in one line.

``write(folder)`` makes them all; `Case.labels` marks the few that are no scan but a legal segmentation (an empty one,
say), which `compare` may take. Everything is deterministic.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

import phantom

GOOD_NAME = "good.nii.gz"
Maker = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes
    ----------
    name
        What is wrong with it.
    path
        Where it was written (or not: some are missing).
    labels
        Whether it is a legal segmentation all the same.
    large
        Whether it makes a reader busy; left out of the fast tests.
    """

    name: str
    path: Path
    labels: bool = False
    large: bool = False


def write(folder: Path, *, large: bool = False) -> list[Case]:
    """Make the inputs in a folder of their own; the large ones only where asked for."""
    folder.mkdir(parents=True)
    cases = []
    for number, (name, content, options) in enumerate(_contents()):
        if options.get("large") and not large:
            continue
        ending = options.get("ending", ".nii.gz" if _is_gzip(content) else ".nii")
        path = folder / f"{number:03d}{ending}"
        path.write_bytes(content)
        cases.append(Case(name, path, bool(options.get("labels")), bool(options.get("large"))))
    for name, make in _places().items():
        path = folder / f"place-{len(cases):03d}.nii.gz"
        make(path)
        cases.append(Case(name, path))
    for number, name in enumerate(NAMES):
        inner = folder / f"names-{number:02d}"
        inner.mkdir()
        path = Path(os.fsdecode(os.fsencode(inner) + b"/" + name + b".nii.gz"))
        path.write_bytes(gzip.compress(_nifti(_head()))[:3000])
        cases.append(Case(f"a truncated scan called {name!r}", path))
    return cases


NAMES = (
    b"with space", b"quote'", b'double"quote', b"new\nline", b"tab\there", b"\x1b[31mred", b"\x07bell", b"<script>x",
    b"&amp;", b"$(touch hacked)", b"`touch hacked`", b"; touch hacked", b"| cat", b"back\\slash", b"%s%n%d", b"{0}{x}",
    b"\xff\xfe not text", "\u202egnp".encode(), "e\u0301\u00e9".encode(), "\U0001f9e0".encode(), b"..", b"~root",
    b"*?[a]", b"a" * 240, b"#hash", b"\r",
)  # fmt: skip
"""File names, as bytes; none of them may be run, printed raw, or taken for a place."""

Content = tuple[str, bytes, dict[str, object]]


def _contents() -> Iterator[Content]:
    yield from _cut()
    yield from _flipped()
    yield from _dimensions()
    yield from _geometry()
    yield from _numbers()
    yield from _voxels()
    yield from _nifti2()
    yield from _mgh()
    yield from _foreign()
    yield from _bombs()


def _cut() -> Iterator[Content]:
    plain = _nifti(_head())
    packed = gzip.compress(plain, 1, mtime=0)
    for length in (0, 1, 2, 3, 5, 9, 10, 11, 18, 20, 100, 1000, len(packed) // 2, -100, -8, -4, -1):
        yield f"gzip cut at {length}", packed[:length], {"ending": ".nii.gz"}
    for length in (1, 4, 100, 347, 348, 349, 351, 352, 353, 1000, len(plain) // 2, -1000, -1):
        yield f"NIfTI cut at {length}", plain[:length], {}
    yield "gzip with another file behind it", packed + b"something else", {}
    yield "gzip of nothing", gzip.compress(b""), {}
    yield "gzip of a header alone", gzip.compress(plain[:352]), {}
    yield "gzip of gzip", gzip.compress(packed), {}


def _flipped() -> Iterator[Content]:
    packed = gzip.compress(_nifti(_head()), 1, mtime=0)
    places = np.random.default_rng(0).integers(200, len(packed) - 8, 30)
    for place in [*places, len(packed) - 6, len(packed) - 2]:
        raw = bytearray(packed)
        raw[place] ^= 0x55
        yield f"gzip with byte {place} flipped", bytes(raw), {}


def _dimensions() -> Iterator[Content]:
    for value in (0, -1, 8, 127, 32767, -32768):
        yield f"dim[0] = {value}", _with(40, "<h", value), {}
    for axis in (1, 2, 3):
        for value in (0, 1, -2, -32768, 32767):
            yield f"dim[{axis}] = {value}", _with(40 + 2 * axis, "<h", value), {}
    for axis in (4, 5, 6, 7):
        for value in (0, 2, -1, 32767):
            yield f"{axis}-D with dim[{axis}] = {value}", _with_all((40, "<h", axis), (40 + 2 * axis, "<h", value)), {}
    yield "all dims 32767", _with_all(*((42 + 2 * i, "<h", 32767) for i in range(3))), {}
    yield "2-D", _nifti(_head()[:, :, 20]), {}
    yield "one slice", _nifti(_head()[:, :, :1]), {}
    yield "15 voxels wide", _nifti(_head()[:15]), {"labels": True}
    yield "5-D", _nifti(np.zeros((4, 4, 4, 2, 3), "i2")), {}


def _geometry() -> Iterator[Content]:
    alone = (252, "<h", 0)  # no qform beside the sform, which would be used instead
    for place in range(12):
        yield f"sform with NaN at {place}", _with_all(alone, (280 + 4 * place, "<f", np.nan)), {}
    for value in (np.inf, -np.inf, 1e20, -1e30):
        yield f"sform with {value}", _with_all(alone, (280, "<f", value)), {}
    yield "sform of zeros", _with_all(alone, *((280 + 4 * i, "<f", 0) for i in range(12))), {}
    yield "sform with two equal axes", _with_all(alone, *((280 + 4 * i, "<f", 1) for i in range(8))), {}
    zeros = [(280 + 4 * i, "<f", 0) for i in range(12)]
    for value in (np.nan, np.inf, 5.0):
        yield f"sform of zeros beside a quaternion of {value}", _with_all((256, "<f", value), *zeros), {}
    for size in (0.0, np.nan, np.inf):
        yield f"qform alone with voxels of {size} mm", _with_all((254, "<h", 0), (88, "<f", size)), {}
    for size in (1e-3, 1e6, -1e6):
        fields = _with_all((254, "<h", 0), (88, "<f", size))
        yield f"qform alone with voxels of {size} mm along one axis", fields, {"labels": True}
    for factor in (1e-2, 100.0):
        content = phantom.nifti_bytes(_head(), np.diag([factor] * 3 + [1.0]) @ phantom.stored_affine("RAS"))
        yield f"a head {factor} times as large as one", content, {"labels": True}
    yield "no forms", _with_all((252, "<h", 0), (254, "<h", 0)), {}
    for value in (np.nan, np.inf, 1e30):
        yield f"qform alone with pixdim {value}", _with_all((254, "<h", 0), (80, "<f", value)), {}
    for value in (np.nan, np.inf, 5.0):
        yield f"qform alone with quaternion {value}", _with_all((254, "<h", 0), (256, "<f", value)), {}


def _numbers() -> Iterator[Content]:
    for code in (0, 1, 32, 128, 1536, 1792, 2048, 2304, 7, -1, 32767, 255):
        yield f"datatype {code}", _with(70, "<h", code), {}
    for slope, inter in ((1, np.inf), (1, np.nan), (1e38, 0), (-1e38, 1e38)):
        yield f"slope {slope}, inter {inter}", _with_all((112, "<f", slope), (116, "<f", inter)), {}
    for offset in (0.0, 4.0, 347.0, -352.0, 1e9, 3e38, np.nan, np.inf):
        yield f"vox_offset {offset}", _with(108, "<f", offset), {}
    for magic in (b"ni1\0", b"n+3\0", b"N+1\0", bytes(4), b"\xff\xff\xff\xff"):
        yield f"magic {magic!r}", _patched(344, magic), {}
    yield "a header of 0xff", b"\xff" * 344 + b"n+1\0" + bytes(4) + bytes(1000), {}
    yield "a header of zeros", bytes(344) + b"n+1\0" + bytes(100_000), {}


def _voxels() -> Iterator[Content]:
    for value in (np.nan, np.inf, -np.inf):
        for dtype in ("f4", "f8", ">f4"):
            data = _head().astype(dtype)
            data[3, 4, 5] = value
            yield f"{value} in {dtype}", _nifti(data), {}
    yield "1e300", _nifti(np.where(_head() > 100, 1e300, 0.0)), {}
    for value in (0, 7, -3):
        yield f"constant {value}", _nifti(np.full((40, 48, 44), value, "i2")), {"labels": value >= 0}
    yield "complex", _nifti(_head().astype("complex64")), {}
    yield "RGB", _nifti(np.zeros((40, 48, 44), [("R", "u1"), ("G", "u1"), ("B", "u1")])), {}
    yield "three volumes", _nifti(np.stack([_head()] * 3, -1)), {}


def _nifti2() -> Iterator[Content]:
    raw = phantom.nifti_bytes(_head(), phantom.stored_affine("RAS"), version=2)
    for value in (0, 1, -1, 2**31, 2**40, 2**62, -(2**63)):
        yield f"NIfTI-2 with dim[1] = {value}", _put(raw, 24, struct.pack("<q", value)), {}
    for value in (0, -1, 2**62, 100):
        yield f"NIfTI-2 with vox_offset {value}", _put(raw, 168, struct.pack("<q", value)), {}
    for length in (4, 100, 539, 540, 600, -1):
        yield f"NIfTI-2 cut at {length}", raw[:length], {}


def _mgh() -> Iterator[Content]:
    raw = bytes(nib.MGHImage(_head(), phantom.stored_affine("RAS")).to_bytes())
    for value in (0, 1, -1, 2**31 - 1, -(2**31)):
        yield f"MGH of width {value}", _put(raw, 4, struct.pack(">i", value)), {"ending": ".mgh"}
    for value in (0, 2, -1, 2**31 - 1):
        yield f"MGH with {value} frames", _put(raw, 16, struct.pack(">i", value)), {"ending": ".mgh"}
    for value in (2, 5, -1, 99):
        yield f"MGH of type {value}", _put(raw, 20, struct.pack(">i", value)), {"ending": ".mgh"}
    for length in (100, 283, 284, 1000):
        yield f"MGH cut at {length}", raw[:length], {"ending": ".mgh"}
    for size in (np.nan, np.inf, 0.0):
        yield f"MGH with voxels of {size} mm", _put(raw, 30, struct.pack(">f", size)), {"ending": ".mgh"}
    for size in (1e-3, 1e4):
        content = _put(raw, 30, struct.pack(">f", size))
        yield f"MGH with voxels of {size} mm along one axis", content, {"ending": ".mgh", "labels": True}
    yield "cut MGZ", gzip.compress(raw, 1)[:3000], {"ending": ".mgz"}


def _foreign() -> Iterator[Content]:
    noise = np.random.default_rng(1).bytes(50_000)
    plain = _nifti(_head())
    box = io.BytesIO()
    with zipfile.ZipFile(box, "w") as archive:
        archive.writestr("../../evil.nii", plain)
    tape = io.BytesIO()
    with tarfile.open(fileobj=tape, mode="w") as tar:
        entry = tarfile.TarInfo("scan.nii")
        entry.size = len(plain)
        tar.addfile(entry, io.BytesIO(plain))
    array = io.BytesIO()
    np.save(array, _head())
    analyze = _with_all((344, "<i", 0), (40, "<h", 3))
    contents = {
        "DICOM": bytes(128) + b"DICM\x02\x00\x00\x00UL\x04\x00" + noise, "JPEG": b"\xff\xd8\xff\xe0\x00\x10JFIF" + noise,
        "PNG": b"\x89PNG\r\n\x1a\n" + noise, "PDF": b"%PDF-1.7\n" + noise, "a zip archive": box.getvalue(),
        "a program": b"\x7fELF\x02\x01\x01" + noise, "HDF5 (MINC)": b"\x89HDF\r\n\x1a\n" + noise,
        "MINC 1": b"CDF\x01" + noise, "a tar archive": tape.getvalue(), "text": b"not an image\n" * 500,
        "HTML": b"<!doctype html><title>404</title>" * 99, "JSON": json.dumps({"a": [1] * 999}).encode(),
        "NRRD": b"NRRD0004\ntype: short\n" + noise, "Analyze 7.5": analyze, "numpy": array.getvalue(),
        "bzip2 of a scan": bz2.compress(plain), "xz of a scan": lzma.compress(plain, preset=0),
        "text in UTF-16": "not an image".encode("utf-16") * 99, "SQLite": b"SQLite format 3\0" + noise,
        "noise": noise, "zeros": bytes(50_000), "a link of git-annex": b"/annex/objects/MD5E-s1--d41d8.nii.gz\n",
        "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    }  # fmt: skip
    for name, content in contents.items():
        yield f"{name} renamed", content, {"ending": ".nii.gz" if len(name) % 2 else ".nii"}
    yield "gzip of JPEG", gzip.compress(b"\xff\xd8\xff\xe0" + noise), {}
    yield "gzip of tar", gzip.compress(tape.getvalue()), {}


def _bombs() -> Iterator[Content]:
    good = _nifti(_head())
    yield "4 GiB of zeros behind a good scan", _bomb(good, 4096), {}
    cubes = {
        "32767": _with_all(*((42 + 2 * i, "<h", 32767) for i in range(3))),
        "1500": _with_all(*((42 + 2 * i, "<h", 1500) for i in range(3))),
    }
    for side, header in cubes.items():
        yield f"4 GiB of zeros that call themselves {side} voxels a side", _bomb(header[:352], 4096), {}
    small = _with_all(*((42 + 2 * i, "<h", 640) for i in range(3)), (70, "<h", 2), (72, "<h", 8))
    yield "250 MiB of zeros that call themselves a scan", _bomb(small[:352], 250), {"large": True, "labels": True}
    yield "a scan of 4 GiB by its header, in 200 kB", gzip.compress(cubes["1500"], 1), {}
    extensions = struct.pack("<ii", 8, 6) * 40_000
    yield (
        "40,000 extensions before too few voxels",
        _patched(108, struct.pack("<f", 352 + len(extensions)), b"\1\0\0\0" + extensions + good[352:-5000], at=348),
        {},
    )


def _bomb(start: bytes, mebibytes: int) -> bytes:
    """A gzip file of `start` and zeros, made of one compressed block again and again."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = compressor.compress(start) + compressor.flush(zlib.Z_FULL_FLUSH)
    block = compressor.compress(bytes(2**20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    end = compressor.flush()
    size = len(start) + mebibytes * 2**20
    checked = zlib.crc32(start)
    for _ in range(mebibytes if mebibytes < 1000 else 0):  # the others are never read to their end
        checked = zlib.crc32(bytes(2**20), checked)
    head = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff"
    return head + first + block * mebibytes + end + struct.pack("<II", checked, size % 2**32)


def _places() -> dict[str, Maker]:
    """What is no file, or none that can be read."""

    def loop(path: Path) -> None:
        path.symlink_to(path)

    return {
        "missing": lambda path: None,
        "a folder": lambda path: path.mkdir(),
        "a link to nothing": lambda path: path.symlink_to("nowhere/at/all.nii.gz"),
        "a link to itself": loop,
        "a link to a device without end": lambda path: path.symlink_to("/dev/zero"),
        "a link to the empty device": lambda path: path.symlink_to("/dev/null"),
        "a link out of the data set": lambda path: path.symlink_to("/etc/passwd"),
        "a link to memory": lambda path: path.symlink_to("/proc/self/mem"),
        "a pipe that nobody writes to": lambda path: os.mkfifo(path),
    }


def _head() -> np.ndarray:
    return phantom.head().values.astype("<i2")


def _nifti(data: np.ndarray) -> bytes:
    return phantom.nifti_bytes(data, phantom.stored_affine("RAS"))


def _with(place: int, kind: str, value: float) -> bytes:
    return _with_all((place, kind, value))


def _with_all(*fields: tuple[int, str, float]) -> bytes:
    raw = _nifti(_head())
    for place, kind, value in fields:
        raw = _put(raw, place, struct.pack(kind, value))
    return raw


def _patched(place: int, data: bytes, rest: bytes | None = None, at: int = 0) -> bytes:
    raw = _put(_nifti(_head()), place, data)
    return raw if rest is None else raw[:at] + rest


def _put(raw: bytes, place: int, data: bytes) -> bytes:
    return raw[:place] + data + raw[place + len(data) :]


def _is_gzip(content: bytes) -> bool:
    return content[:2] == b"\x1f\x8b"
