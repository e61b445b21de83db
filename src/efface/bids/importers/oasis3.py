"""OASIS-3: T1w scans of 1,378 adults, from the official downloads to BIDS.

Four layouts are the same to this importer, because the files keep their names in all of them:

- ``OAS30001_MR_d0129/anat2/sub-OAS30001_ses-d0129_run-01_T1w.nii.gz`` of ``download_oasis_scans.sh``;
- the same with ``anat2/NIFTI/`` of older versions of it;
- ``sub-OAS30001/ses-d0129/anat/sub-OAS30001_ses-d0129_run-01_T1w.nii.gz`` of ``download_oasis_scans_bids.sh``;
- ``OAS30001_MR_d0129/scans/anat2-T1w/resources/NIFTI/files/...`` of the archive's web page.

Some files spell the session ``sess-d0129``. Source: https://github.com/NrgXnat/oasis-scripts.

References
----------
LaMontagne et al. "OASIS-3: longitudinal neuroimaging, clinical, and cognitive dataset for normal aging and Alzheimer
disease." medRxiv 2019.12.13.19014902.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from efface.bids.importers.copying import Imported, Item, Plan, carry_out, files_below
from efface.errors import InputError

NAME = "OASIS-3"
PAPER_SUBJECTS = 179
"""As many as Gao et al. (2022) used; which ones they do not say."""
FILE = re.compile(r"sub-(OAS\d{5})_sess?-(d\d{4,5})((?:_[a-z]+-[A-Za-z0-9]+)*)_T1w\.nii(\.gz)?")
FOLDER = re.compile(r"(OAS\d{5})_MR_(d\d{4,5})|sub-(OAS\d{5})")
README = """OASIS-3 (https://www.oasis-brains.org), put into BIDS by efface. The OASIS data use agreement applies to this
copy. dataset_description.json says how the scans were chosen (Efface).
"""


@dataclass(frozen=True)
class Found:
    """One T1w scan of the download."""

    subject: str
    session: str
    entities: str
    path: Path

    @property
    def stem(self) -> str:
        """BIDS name up to the suffix."""
        return f"sub-{self.subject}_ses-{self.session}{self.entities}"


def import_oasis3(
    source: str | Path,
    bids_dir: str | Path,
    *,
    subjects: int | None = PAPER_SUBJECTS,
    seed: int = 0,
    link: bool = False,
) -> Imported:
    """Put a download of OASIS-3 into BIDS.

    Parameters
    ----------
    source
        Folder of the download, in any of the four layouts.
    bids_dir
        The data set's folder.
    subjects
        How many people to choose at random; of each the T1w scan of the first session is taken (of several runs, the
        first). None takes every T1w scan of everybody.
    seed
        Of the choice. The same people and seed give the same choice whatever the order of files; more `subjects`
        only add to it.
    link
        Make symbolic links instead of copies.

    Raises
    ------
    InputError
        If the folder holds no such scan, one is there twice, or a number is not positive.
    OutputError
        If the data set cannot be written, or its folder holds something else.
    """
    if subjects is not None and subjects < 1:
        msg = f"the number of subjects must be 1 or more; received {subjects}"
        raise InputError(msg)
    found, warnings = _found(Path(source))
    if not found:
        msg = f"{source} holds no OASIS-3 T1w scan (expected files like sub-OAS30001_ses-d0129_run-01_T1w.nii.gz)"
        raise InputError(msg + ": check the folder")
    chosen = found
    if subjects is not None:
        people = _choose(sorted({f.subject for f in found}), subjects, seed)
        chosen = [_first([f for f in found if f.subject == person]) for person in people]
        if len(people) < subjects:
            warnings.append(f"the download has {len(people)} people, fewer than {subjects}: all are taken")
    items = [item for scan in chosen for item in _items(scan)]
    plan = Plan(NAME, _description(subjects, seed), README, items, _tables(chosen), tuple(warnings))
    return carry_out(plan, Path(source), Path(bids_dir), link=link)


def _found(source: Path) -> tuple[list[Found], list[str]]:
    by_stem: dict[str, Found] = {}
    strangers = []
    for path in files_below(source):
        match = FILE.fullmatch(path.name)
        if not match:
            continue
        scan = Found(match[1], match[2], match[3], path)
        if not _is_in_own_folder(scan, source):
            strangers.append(path)
        elif scan.stem in by_stem:
            msg = f"{scan.stem} is in {source} twice ({by_stem[scan.stem].path}, {path}): remove one of them"
            raise InputError(msg)
        else:
            by_stem[scan.stem] = scan
    notes = []
    if strangers:
        notes.append(f"{len(strangers)} scans lie in another person's folder and are left out, first {strangers[0]}")
    return sorted(by_stem.values(), key=lambda f: (f.subject, _day(f), f.entities)), notes


def _is_in_own_folder(scan: Found, source: Path) -> bool:
    """Whether no folder above a scan names another person or session than its file name."""
    for folder in scan.path.relative_to(source).parts[:-1]:
        match = FOLDER.fullmatch(folder)
        if match and ((match[1] or match[3]) != scan.subject or (match[2] or scan.session) != scan.session):
            return False
    return True


def _choose(people: Sequence[str], count: int, seed: int) -> list[str]:
    """The people whose hashes come first: an order that depends on nothing but names and seed."""
    return sorted(sorted(people, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())[:count])


def _first(scans: Sequence[Found]) -> Found:
    return min(scans, key=lambda f: (_day(f), f.entities))


def _day(scan: Found) -> int:
    """Days since the person's entry into the study."""
    return int(scan.session.removeprefix("d"))


def _items(scan: Found) -> list[Item]:
    folder = Path(f"sub-{scan.subject}/ses-{scan.session}/anat")
    ending = ".nii.gz" if scan.path.name.endswith(".gz") else ".nii"
    sidecar = scan.path.with_name(scan.path.name.removesuffix(ending) + ".json")
    items = [Item(folder / f"{scan.stem}_T1w{ending}", scan.path)]
    return (
        [*items, Item(folder / f"{scan.stem}_T1w.json", sidecar)] if sidecar.is_file() or sidecar.is_symlink() else items
    )


def _tables(chosen: Sequence[Found]) -> Mapping[Path, list[dict[str, str]]]:
    people = sorted({scan.subject for scan in chosen})
    return {Path("participants.tsv"): [{"participant_id": f"sub-{person}"} for person in people]}


def _description(subjects: int | None, seed: int) -> dict[str, object]:
    choice: dict[str, object] = {"Choice": "every T1w scan"}
    if subjects is not None:
        choice = {"Choice": "first T1w scan of people chosen at random", "Subjects": subjects, "Seed": seed}
    return {
        "License": "OASIS data use agreement",
        "HowToAcknowledge": "Data were provided by OASIS-3 (https://www.oasis-brains.org): cite LaMontagne et al. 2019",
        "ReferencesAndLinks": ["https://www.oasis-brains.org", "https://doi.org/10.1101/2019.12.13.19014902"],
        "GeneratedBy": [{"Name": "efface dataset oasis3"}],
        "Efface": choice,
    }
