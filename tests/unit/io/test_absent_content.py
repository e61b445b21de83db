"""Files whose content was not fetched: every reader says which command fetches it; byte order marks in text files."""

import json
from pathlib import Path

import pytest

import phantom
from cli_runner import run
from efface.bids.filters import load_filter
from efface.bids.importers import IMPORTERS
from efface.errors import InputError
from efface.io.absent_content import check_content, why_absent
from efface.io.json_files import read_object
from efface.io.label_images import load_labels, load_mask
from efface.io.nifti_mgh import announced_shape
from efface.io.scan import load_scan
from efface.io.sidecar import Sidecar
from efface.segmentation.slant.checkpoints import PublishedWeights, read_card
from efface.segmentation.slant.label_prior import load_label_prior
from efface.segmentation.slant.tiling import EMBEDDED, PUBLISHED
from efface.segmentation.slant.weights_folder import PUBLISHED_PATHS
from efface.study.backends import backend_of
from efface.study.ratings import ratings_path, read_ratings
from efface.study.records import read_table

KEY = "MD5E-s4096--d41d8cd98f00b204e9800998ecf8427e"


def pointer(path: Path) -> Path:
    path.write_text(f"/annex/objects/{KEY}.nii.gz\n")
    return path


def dead_link(path: Path) -> Path:
    path.symlink_to(f".git/annex/objects/Xq/9z/{KEY}/{KEY}.nii.gz")
    return path


def link_to_a_dead_link(path: Path) -> Path:
    inner = dead_link(path.with_name(f"inner-{path.name}"))
    path.symlink_to(inner)
    return path


def large_file(path: Path) -> Path:
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 4096\n")
    return path


ABSENT = {
    "an unlocked file of git-annex": (pointer, "is a pointer of git-annex to content that is not here: fetch it with"),
    "a link of git-annex": (dead_link, "is a link of git-annex to content that is not here: fetch it with"),
    "a link to such a link": (link_to_a_dead_link, "is a link of git-annex"),
    "a file of Git LFS": (
        large_file,
        "is a pointer of Git LFS to content that is not here: fetch it with `git lfs pull",
    ),
}
absent = pytest.mark.parametrize("case", ABSENT)


def made(case: str, path: Path) -> tuple[Path, str]:
    make, words = ABSENT[case]
    return make(path), words


@absent
@pytest.mark.parametrize("command", ["deface", "segment", "qc", "compare"])
def test_an_image_that_was_not_fetched_gets_the_right_advice(tmp_path, capsys, case, command):
    path, words = made(case, tmp_path / "sub-01_T1w.nii.gz")
    good = phantom.write(tmp_path / "good.nii.gz", "RAS", "uint8").path
    other = {"qc": good, "compare": good}.get(command, tmp_path / "out.nii.gz")
    code, said, error = run(capsys, command, path, other)
    assert (code, said, error.count("\n")) == (2, "", 1)
    assert words in error
    if "LFS" not in case:
        assert f"`datalad get {path}` or `git annex get {path}`" in error


@absent
def test_masks_and_labels_too(tmp_path, case):
    path, words = made(case, tmp_path / "mask.nii.gz")
    scan = load_scan(phantom.write(tmp_path / "good.nii.gz", "RAS").path)
    for read in (lambda: load_mask(path, scan), lambda: load_labels(path), lambda: announced_shape(path)):
        with pytest.raises(InputError, match=words):
            read()


@absent
def test_text_files_too(tmp_path, case):
    path, words = made(case, tmp_path / "file.json")
    (tmp_path / "slant").mkdir()
    made(case, tmp_path / "slant" / "card.json")
    made(case, tmp_path / "slant" / PUBLISHED_PATHS[1].format(name=next(iter(PUBLISHED.names))))
    ratings_path(tmp_path / "study").parent.mkdir(parents=True)
    made(case, ratings_path(tmp_path / "study"))
    (tmp_path / "download").mkdir()
    (tmp_path / "download" / "KKI2009-01-MPRAGE.nii").write_bytes(b"a scan")
    readers = (
        lambda: load_filter(path),
        lambda: read_table(path),
        lambda: read_ratings(tmp_path / "study"),
        lambda: backend_of("slurm", None, config=path),
        lambda: read_card(tmp_path / "slant"),
        lambda: PublishedWeights(tmp_path / "slant"),
        lambda: load_label_prior(path, EMBEDDED),
        lambda: IMPORTERS["kirby21"](tmp_path / "download", tmp_path / "bids", pairs=path),
    )
    for read in readers:
        with pytest.raises(InputError, match=words):
            read()


@absent
@pytest.mark.parametrize("link", [True, False])
@pytest.mark.parametrize(
    ("name", "file"), [("kirby21", "KKI2009-01-MPRAGE.nii"), ("kirby21", "KKI2009-02.tar.bz2"), ("oasis3", None)]
)
def test_a_download_that_was_not_fetched_is_not_copied_as_it_is(tmp_path, case, link, name, file):
    (tmp_path / "download").mkdir()
    path, words = made(case, tmp_path / "download" / (file or "sub-OAS30001_ses-d0129_run-01_T1w.nii.gz"))
    with pytest.raises(InputError, match=words):
        IMPORTERS[name](tmp_path / "download", tmp_path / "bids", link=link)
    assert not list(tmp_path.glob("bids/**/*.nii*"))
    assert why_absent(path)


@absent
def test_a_sidecar_that_was_not_fetched_is_a_warning(tmp_path, case):
    _, words = made(case, tmp_path / "sub-01_T1w.json")
    sidecar = Sidecar.of(tmp_path / "sub-01_T1w.nii.gz", tmp_path / "out.nii.gz")
    assert sidecar.content == {}
    assert words in sidecar.warnings[0]
    assert sidecar.warnings[0].endswith("it was not carried over")


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_text("/annex/objects"),
        lambda path: path.write_text("see /annex/objects/MD5E"),
        lambda path: path.write_bytes(b"/annex/objects/" + bytes(40_000)),
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.mkdir(),
        lambda path: None,
    ],
)
def test_other_files_are_no_pointers(tmp_path, make):
    make(tmp_path / "file")
    assert why_absent(tmp_path / "file") == ""
    check_content(tmp_path / "file")


# Byte order marks, which editors of Windows write

MARK = b"\xef\xbb\xbf"


def marked(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(MARK + text.encode())
    return path


def test_a_filter_with_a_byte_order_mark_is_read(tmp_path):
    query = {"t1w": {"run": 1}}
    assert load_filter(marked(tmp_path / "filter.json", query)) == load_filter(query)
    assert load_filter("\ufeff" + json.dumps(query)) == load_filter(query)


def test_json_with_a_byte_order_mark_is_read(tmp_path):
    assert read_object(marked(tmp_path / "a.json", {"Name": "x"})) == {"Name": "x"}
    sidecar = Sidecar.of(marked(tmp_path / "b.json", {"EchoTime": 1}).with_suffix(".nii"), tmp_path / "c.nii")
    assert (sidecar.content, sidecar.warnings) == ({"EchoTime": 1}, ())


def test_a_table_with_a_byte_order_mark_has_its_first_column(tmp_path):
    frame = read_table(marked(tmp_path / "dice.tsv", "scan\tdice\nsub-01\t0.5\n"))
    assert list(frame.columns) == ["scan", "dice"]


def test_ratings_with_a_byte_order_mark_are_all_read(tmp_path):
    rating = dict.fromkeys(("time", "reviewer", "subject", "session", "scan", "method"), "x")
    marked(ratings_path(tmp_path), {**rating, "verdict": "Success"})
    log = read_ratings(tmp_path)
    assert len(log.ratings) == 1
