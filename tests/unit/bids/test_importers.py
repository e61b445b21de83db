"""Downloads with the published file names and tiny images, put into BIDS."""

import csv
import gzip
import io
import json
import os
import tarfile

import nibabel as nib
import numpy as np
import pytest

import cli_runner
from efface.bids.importers import import_kirby21, import_oasis3
from efface.bids.importers.kirby21 import PEOPLE
from efface.bids.query import find_scans
from efface.errors import InputError, OutputError


def image(number=0):
    """Bytes of a tiny image that no other number has."""
    return nib.Nifti1Image(np.full((2, 3, 4), number, np.int16), np.eye(4)).to_bytes()


def kirby(root, scans=range(1, 43), place="KKI2009-{n:02d}/"):
    for n in scans:
        for contrast in ("MPRAGE", "FLAIR", "T2w", "DTI"):
            path = root / f"{place.format(n=n)}KKI2009-{n:02d}-{contrast}.nii"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image(n))
            path.with_suffix(".par").write_text("# CLINICAL TRYOUT")
    return root


def oasis_folders(root, people=("OAS30001", "OAS30002", "OAS30003"), sub="", spelled="ses"):
    """The layout of download_oasis_scans.sh: two sessions each, with two runs in the second."""
    for person in people:
        for session, runs in (("d0129", ("",)), ("d0757", ("_run-01", "_run-02"))):
            for k, run in enumerate(runs):
                folder = root / f"{person}_MR_{session}" / f"anat{k + 2}" / sub
                folder.mkdir(parents=True)
                stem = f"sub-{person}_{spelled}-{session}{run}_T1w"
                (folder / f"{stem}.nii.gz").write_bytes(gzip.compress(image(int(person[3:]) % 1000 + k), mtime=0))
                (folder / f"{stem}.json").write_text('{"MagneticFieldStrength": 3}')
            (folder / f"sub-{person}_{spelled}-{session}_T2w.nii.gz").write_bytes(b"")
    return root


def oasis_bids(root):
    """The layout of download_oasis_scans_bids.sh."""
    folder = root / "sub-OAS30001/ses-d0129/anat"
    folder.mkdir(parents=True)
    (folder / "sub-OAS30001_ses-d0129_run-01_T1w.nii.gz").write_bytes(gzip.compress(image(1)))
    (root / "sub-OAS30001/ses-d0129/dataset_description.json").write_text("{}")
    return root


def tree(root):
    return {p.relative_to(root): (p.lstat().st_mtime_ns, p.read_bytes()) for p in root.rglob("*") if p.is_file()}


def names(root):
    return sorted(str(p.relative_to(root)) for p in root.rglob("*.nii*"))


def table(path):
    return list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))


# Kirby 21


def test_the_mapping_has_every_scan_once_and_the_people_of_the_paper():
    scans = sorted(scan for person in PEOPLE for scan in person.scans)
    assert scans == list(range(1, 43))
    assert [len(p.scans) for p in PEOPLE] == [2] * 21
    assert len({p.subject for p in PEOPLE}) == 21
    assert sum(p.sex == "M" for p in PEOPLE) == 11
    ages = [int(p.age) for p in PEOPLE]
    assert (min(ages), max(ages)) == (22, 61)


def test_kirby21_becomes_21_subjects_with_two_sessions_of_t1w(tmp_path):
    source, out = kirby(tmp_path / "src"), tmp_path / "bids"
    before = tree(source)
    done = import_kirby21(source, out)
    assert (done.subjects, done.scans, done.written, done.warnings) == (21, 42, 42, ())
    found = find_scans(out)
    assert len(found) == 42
    assert {s.session for s in found} == {"1", "2"}
    assert (out / "sub-849/ses-1/anat/sub-849_ses-1_T1w.nii").read_bytes() == image(1)
    assert (out / "sub-849/ses-2/anat/sub-849_ses-2_T1w.nii").read_bytes() == image(25)
    assert tree(source) == before
    assert {r["participant_id"]: (r["sex"], r["age"]) for r in table(out / "participants.tsv")}["sub-934"] == ("F", "61")
    assert table(out / "sub-113/sub-113_sessions.tsv") == [
        {"session_id": "ses-1", "kki2009_scan": "30"},
        {"session_id": "ses-2", "kki2009_scan": "33"},
    ]
    assert json.loads((out / "dataset_description.json").read_text())["DatasetType"] == "raw"


@pytest.mark.parametrize("link", [False, True])
def test_a_second_import_writes_nothing(tmp_path, link):
    source, out = kirby(tmp_path / "src", [1, 25]), tmp_path / "bids"
    assert import_kirby21(source, out, link=link).written == 2
    before = tree(out)
    assert import_kirby21(source, out, link=link).written == 0
    assert tree(out) == before
    os.utime(source / "KKI2009-01/KKI2009-01-MPRAGE.nii")
    assert import_kirby21(source, out, link=link).written == 0


def test_links_lead_to_the_download_and_nothing_is_copied(tmp_path):
    source, out = kirby(tmp_path / "src", [1, 25], place=""), tmp_path / "bids"
    import_kirby21(source, out, link=True)
    path = out / "sub-849/ses-1/anat/sub-849_ses-1_T1w.nii"
    assert path.is_symlink()
    assert path.resolve() == (source / "KKI2009-01-MPRAGE.nii").resolve()


def test_archives_need_not_be_unpacked(tmp_path):
    source, out = tmp_path / "src", tmp_path / "bids"
    source.mkdir()
    for n in (1, 25):
        with tarfile.open(source / f"KKI2009-{n:02d}.tar.bz2", "w:bz2") as archive:
            for name in (f"KKI2009-{n:02d}-DTI.nii", f"./KKI2009-{n:02d}-MPRAGE.nii", "../../evil-MPRAGE.nii"):
                entry = tarfile.TarInfo(name)
                entry.size = len(image(n))
                archive.addfile(entry, io.BytesIO(image(n)))
    assert import_kirby21(source, out).written == 2
    assert gzip.decompress((out / "sub-849/ses-2/anat/sub-849_ses-2_T1w.nii.gz").read_bytes()) == image(25)
    assert import_kirby21(source, out).written == 0
    assert not list(tmp_path.rglob("evil*"))


def test_more_contrasts_come_when_asked_for(tmp_path):
    out = tmp_path / "bids"
    assert import_kirby21(kirby(tmp_path / "src", [2, 37]), out, contrasts=("MPRAGE", "FLAIR", "T2w")).scans == 6
    assert names(out)[:3] == [f"sub-934/ses-1/anat/sub-934_ses-1_{s}.nii" for s in ("FLAIR", "T1w", "T2w")]


def test_what_is_missing_of_a_download_is_said(tmp_path):
    done = import_kirby21(kirby(tmp_path / "src", range(1, 41)), tmp_path / "bids")
    assert done.scans == 40
    assert "2 scans is not in the download: 41, 42" in done.warnings[0]


@pytest.mark.parametrize(
    "text", ["scan,subject\n1,a\n2,a\n", "scan\tsubject\tsession\nKKI2009-02\ta\t2\n01\tsub-a\tses-1\n"]
)
def test_an_own_table_replaces_the_mapping(tmp_path, text):
    pairs, out = tmp_path / "pairs.txt", tmp_path / "bids"
    pairs.write_text(text)
    done = import_kirby21(kirby(tmp_path / "src", [1, 2, 3]), out, pairs=pairs)
    assert names(out) == [f"sub-a/ses-{n}/anat/sub-a_ses-{n}_T1w.nii" for n in (1, 2)]
    assert (out / names(out)[1]).read_bytes() == image(2)
    assert "belong to no person in the mapping" in done.warnings[0]
    assert table(out / "participants.tsv") == [{"participant_id": "sub-a", "sex": "n/a", "age": "n/a"}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "received nothing"),
        ("scan,person\n1,a\n", "received scan, person"),
        ("scan,subject\n", "no rows"),
        ("scan,subject\n1,a\n1,b\n", "line 3"),
        ("scan,subject\nx,a\n", "line 2"),
        ("scan,subject\n1,../a\n", "line 2"),
        ("scan,subject,session\n1,a,1\n2,a,1\n", "line 3"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_line(tmp_path, text, words):
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        import_kirby21(kirby(tmp_path / "src", [1]), tmp_path / "bids", pairs=pairs)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bids").exists()


def test_a_broken_archive_is_refused(tmp_path):
    (tmp_path / "KKI2009-01.tar.bz2").write_bytes(b"BZh9 but not really")
    with pytest.raises(InputError, match="corrupt archive"):
        import_kirby21(tmp_path, tmp_path.parent / "bids")


# OASIS-3


@pytest.mark.parametrize("layout", [("", "ses"), ("NIFTI", "ses"), ("NIFTI", "sess")])
def test_oasis3_takes_the_first_scan_of_the_first_session(tmp_path, layout):
    source, out = oasis_folders(tmp_path / "src", sub=layout[0], spelled=layout[1]), tmp_path / "bids"
    before = tree(source)
    done = import_oasis3(source, out)
    assert (done.subjects, done.scans) == (3, 3)
    assert "fewer than 179" in done.warnings[0]
    assert [s.stem for s in find_scans(out)] == [f"sub-OAS3000{n}_ses-d0129" for n in (1, 2, 3)]
    assert (out / "sub-OAS30001/ses-d0129/anat/sub-OAS30001_ses-d0129_T1w.json").is_file()
    assert tree(source) == before
    assert import_oasis3(source, out).written == 0


def test_the_bids_layout_keeps_its_names(tmp_path):
    out = tmp_path / "bids"
    import_oasis3(oasis_bids(tmp_path / "src"), out)
    assert names(out) == ["sub-OAS30001/ses-d0129/anat/sub-OAS30001_ses-d0129_run-01_T1w.nii.gz"]


def test_all_takes_every_run_of_every_session(tmp_path):
    out = tmp_path / "bids"
    assert import_oasis3(oasis_folders(tmp_path / "src"), out, subjects=None).scans == 9
    assert [s.stem for s in find_scans(out, subjects=["OAS30001"])] == [
        "sub-OAS30001_ses-d0129",
        "sub-OAS30001_ses-d0757_run-01",
        "sub-OAS30001_ses-d0757_run-02",
    ]


def test_the_choice_is_random_seeded_and_nested(tmp_path):
    people = [f"OAS3{n:04d}" for n in range(30)]
    source = oasis_folders(tmp_path / "src", people)

    def chosen(count, seed):
        out = tmp_path / f"{count}-{seed}-{len(list(tmp_path.iterdir()))}"
        import_oasis3(source, out, subjects=count, seed=seed)
        return {s.subject for s in find_scans(out)}

    five = chosen(5, 0)
    assert five == chosen(5, 0)
    assert five < chosen(10, 0)
    assert len(five) == 5
    assert five != chosen(5, 1)
    assert five != set(people[:5])


def test_a_scan_in_another_person_s_folder_is_left_out_and_said(tmp_path):
    source = oasis_folders(tmp_path / "src", ["OAS30001"])
    (source / "OAS30002_MR_d0129").mkdir()
    (source / "OAS30002_MR_d0129/sub-OAS30009_ses-d0129_T1w.nii.gz").write_bytes(b"")
    done = import_oasis3(source, tmp_path / "bids", subjects=1)
    assert done.subjects == 1
    assert "another person's folder" in done.warnings[0]


# Both


def test_a_folder_without_such_scans_or_none_at_all_is_refused(tmp_path):
    for importer in (import_kirby21, import_oasis3):
        with pytest.raises(InputError, match="check the folder"):
            importer(tmp_path, tmp_path.parent / "bids")
        with pytest.raises(InputError, match="does not exist"):
            importer(tmp_path / "nothing", tmp_path / "bids")


def test_a_file_that_is_there_twice_is_refused(tmp_path):
    kirby(tmp_path / "src", [1])
    with pytest.raises(InputError, match="twice"):
        import_kirby21(kirby(tmp_path / "src", [1], place=""), tmp_path / "bids")
    oasis_folders(tmp_path / "o", ["OAS30001"])
    with pytest.raises(InputError, match="twice"):
        import_oasis3(oasis_folders(tmp_path / "o", ["OAS30001"], sub="NIFTI/more"), tmp_path / "bids")


def test_the_download_itself_is_no_place_for_the_data_set(tmp_path):
    source = kirby(tmp_path / "src", [1])
    for place in (source, source / "bids"):
        with pytest.raises(InputError, match="must stay as it is"):
            import_kirby21(source, place)


def test_another_choice_or_another_data_set_in_the_folder_is_refused(tmp_path):
    source, out = oasis_folders(tmp_path / "src"), tmp_path / "bids"
    import_oasis3(source, out, subjects=None)
    with pytest.raises(OutputError, match="6 scans that are not of this choice"):
        import_oasis3(source, out)
    with pytest.raises(OutputError, match="another data set"):
        import_kirby21(kirby(tmp_path / "kirby", [1]), out)


def test_a_file_with_other_content_is_never_overwritten(tmp_path):
    source, out = kirby(tmp_path / "src", [1, 25]), tmp_path / "bids"
    import_kirby21(source, out)
    path = out / "sub-849/ses-1/anat/sub-849_ses-1_T1w.nii"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="there already and is not"):
        import_kirby21(source, out)
    assert path.read_bytes() == b"precious"


def test_an_import_that_was_killed_goes_on(tmp_path):
    source, out = kirby(tmp_path / "src", [1, 25]), tmp_path / "bids"
    import_kirby21(source, out)
    whole = tree(out)
    (out / "dataset_description.json").unlink()
    (out / "sub-849/ses-2/anat/sub-849_ses-2_T1w.nii").unlink()
    (out / "sub-849/ses-1/anat/.sub-849_ses-1_T1w.nii.abcd.tmp").write_bytes(b"half")
    assert import_kirby21(source, out).written == 1
    after = tree(out)
    assert {n: c[1] for n, c in whole.items()} == {n: c[1] for n, c in after.items() if not n.name.endswith(".tmp")}


def test_a_dead_link_in_the_download_is_one_line(tmp_path):
    source = tmp_path / "src"
    source.mkdir()
    (source / "KKI2009-01-MPRAGE.nii").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="cannot be read"):
        import_kirby21(source, tmp_path / "bids")


def test_the_command_says_what_it_did(tmp_path, capsys):
    source = kirby(tmp_path / "src")
    code, said, error = cli_runner.run(capsys, "dataset", "kirby21", source, tmp_path / "bids", "--link")
    assert (code, error) == (0, "")
    assert "42 scans of 21 subjects, 42 files written" in said
    code, said, _ = cli_runner.run(capsys, "dataset", "oasis3", oasis_folders(tmp_path / "o"), tmp_path / "b", "--all")
    assert "9 scans of 3 subjects" in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["kirby21", "--seed", "1"], "not an option of kirby21"),
        (["oasis3", "--pairs", "x"], "not an option of oasis3"),
        (["oasis3", "--all", "--subjects", "3"], "give one of them"),
        (["oasis3", "--subjects", "0"], "1 or more"),
        (["kirby21", "--contrasts", "PET"], "received PET"),
        (["ixi"], "ixi"),
    ],
)
def test_options_that_do_not_fit_get_one_line_and_exit_code_2(tmp_path, capsys, words, expected):
    kirby(tmp_path / "src", [1])
    name, *more = words
    code, said, error = cli_runner.run(capsys, "dataset", name, tmp_path / "src", tmp_path / "bids", *more)
    assert (code, said) == (2, "")
    assert error.count("\n") == 1
    assert expected in error
    assert not (tmp_path / "bids").exists()
