"""A BIDS folder seen as scans by subject and session; names only, no image is opened."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from efface.errors import InputError


@dataclass(frozen=True)
class Source:
    """One T1-weighted scan of a data set.

    Attributes
    ----------
    subject, session
        BIDS labels without ``sub-`` and ``ses-``; session is None where there is none.
    stem
        The file's BIDS name up to its suffix.
    path
        The file.
    """

    subject: str
    session: str | None
    stem: str
    path: Path


def find_scans(
    bids_dir: Path,
    *,
    subjects: Sequence[str] = (),
    sessions: Sequence[str] = (),
    validate: bool = True,
) -> list[Source]:
    """List the T1w scans of a BIDS data set, by subject, session and name.

    Parameters
    ----------
    bids_dir
        Root of the data set; derivatives below it are not looked at.
    subjects, sessions
        Labels to keep, with or without ``sub-`` and ``ses-``; empty keeps all.
    validate
        Ask for a dataset_description.json.

    Raises
    ------
    InputError
        If the folder is missing, is no BIDS data set, has no T1w scan, or lacks a label that was asked for.
    """
    if not bids_dir.is_dir():
        msg = f"BIDS folder {bids_dir} does not exist: check the path"
        raise InputError(msg)
    if validate and not (bids_dir / "dataset_description.json").is_file():
        msg = f"{bids_dir} has no dataset_description.json (not BIDS): check it, or give --skip-bids-validation"
        raise InputError(msg)
    found = _index(bids_dir)
    if not found:
        msg = f"{bids_dir} holds no T1w scan (expected sub-*/[ses-*/]anat/*_T1w.nii[.gz]): check the folder"
        raise InputError(msg)
    found = _keep(found, "participant", "sub-", subjects)
    return _keep(found, "session", "ses-", sessions)


def _index(bids_dir: Path) -> list[Source]:
    import bids2table

    columns = ["sub", "ses", "suffix", "ext", "path", "datatype"]
    table = bids2table.index_dataset(bids_dir).select(columns).to_pylist()
    sources = [
        Source(row["sub"], row["ses"], Path(row["path"]).name.rsplit("_", 1)[0], bids_dir / row["path"])
        for row in table
        if row["suffix"] == "T1w" and row["ext"] in (".nii", ".nii.gz") and row["datatype"] == "anat" and row["sub"]
    ]
    return sorted(sources, key=lambda s: (s.subject, s.session or "", s.stem, s.path.name))


def _keep(sources: list[Source], what: str, prefix: str, wanted: Sequence[str]) -> list[Source]:
    if not wanted:
        return sources
    labels = [w.removeprefix(prefix) for w in wanted]
    have = {s.subject if what == "participant" else s.session or "" for s in sources}
    missing = sorted(set(labels) - have)
    if missing:
        known = ", ".join(sorted(filter(None, have))) or "none"
        msg = f"no T1w scan of {what} {', '.join(missing)}; the data set has {known}"
        raise InputError(msg)
    return [s for s in sources if (s.subject if what == "participant" else s.session or "") in labels]
