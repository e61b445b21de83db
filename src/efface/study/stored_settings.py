"""The settings that ``dataset_description.json`` of a study's output keeps: enough to run the study again.

Stored settings
---------------
Under the key ``Efface`` stand the options of the latest run, as JSON:

=====================  =============================  ============================================================
key                    type                           option of ``efface study``, and meaning
=====================  =============================  ============================================================
Methods                list of text                   ``--methods``
MethodParameters       object of objects, by method   of the methods
Original               list of text                   ``--original``: methods whose external programs were run
Segmenter              text                           the first of ``--segmenter``
Segmenters             list of text                   ``--segmenter``, all of them
SegmenterParameters    object of objects, by name     of the segmenters, ``weights`` of SLANT among them
SlantWeights           text or null                   ``--slant-weights``, name of the folder
ProtectBrain           boolean                        ``--protect-brain``
Measures               list of text                   ``--measures``
Rescan                 text                           ``--rescan``
RescanPairs            text or null                   ``--rescan-pairs``, name of the file
KeepRescans            boolean                        ``--keep-rescans``
Header                 text                           ``--header``
SidecarKeep            list of text                   ``--sidecar-keep``
StepLimit              number                         ``--step-limit``, seconds
BidsFilter             object or null                 ``--bids-filter``: lists of values by short entity name;
                                                      its JSON text is a valid ``--bids-filter``
ParticipantLabels      list of text                   ``--participant-label``; empty: all
SessionLabels          list of text                   ``--session-label``; empty: all
SkipBidsValidation     boolean                        ``--skip-bids-validation``
Runs                   list of objects                all runs, each with the keys above; the latest is the last
=====================  =============================  ============================================================

No absolute path is stored: of files and folders in parameters only the names, and of the data set a relative link
(`efface.bids.dataset_links`).

Consecutive runs that differ in ``ParticipantLabels`` only are one entry of ``Runs`` with the labels of all of them. A
run that repeats an earlier one replaces it. So running the entries in order makes the study again, and a study that is
run for one participant at a time keeps a short list.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from efface._version import __version__
from efface.bids.dataset_links import RAW, link_to
from efface.bids.derivatives import GroupPaths
from efface.bids.filters import BidsFilter
from efface.bids.shareable import names_only, shareable
from efface.io.atomic import write_atomically
from efface.io.json_files import parse_json
from efface.study.settings import Settings

LABELS, RUNS = "ParticipantLabels", "Runs"
KEY = "Efface"


def options_of(
    settings: Settings,
    *,
    bids_filter: BidsFilter | None = None,
    subjects: Sequence[str] = (),
    sessions: Sequence[str] = (),
    validate: bool = True,
) -> dict[str, Any]:
    """Return the options of one run by the names of `Stored settings`.

    Parameters
    ----------
    settings
        Of the study.
    bids_filter, subjects, sessions
        Which scans were chosen; labels with or without ``sub-`` and ``ses-``.
    validate
        Whether the input was checked to be BIDS.
    """
    conditions = {name: list(values) for name, values in bids_filter.conditions.items()} if bids_filter else None
    return {
        "Methods": list(settings.methods),
        "Segmenter": settings.segmenter,
        "Segmenters": list(settings.segmenters),
        "SegmenterParameters": {name: dict(params) for name, params in settings.segmenter_params.items()},
        "ProtectBrain": settings.protect_brain,
        "Measures": list(settings.measures),
        "Rescan": settings.rescan,
        "RescanPairs": str(settings.rescan_pairs) if settings.rescan_pairs else None,
        "KeepRescans": settings.keep_rescans,
        "Header": settings.header,
        "SidecarKeep": list(settings.sidecar_keep),
        "MethodParameters": {name: dict(params) for name, params in settings.method_params.items()},
        "Original": list(settings.originals),
        "SlantWeights": dict(settings.segmenter_params.get("slant", {})).get("weights") or None,
        "StepLimit": settings.step_limit_s,
        "BidsFilter": conditions,
        LABELS: sorted({label.removeprefix("sub-") for label in subjects}),
        "SessionLabels": sorted({label.removeprefix("ses-") for label in sessions}),
        "SkipBidsValidation": not validate,
    }


def write_description(settings: Settings, options: Mapping[str, Any]) -> None:
    """Write ``dataset_description.json`` of the output folder, with this run added to the list of runs.

    Parameters
    ----------
    settings
        Of the study.
    options
        Of this run, from `options_of`.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path = GroupPaths(settings.out_dir).description
    plain = shareable(_names_of_files(options), bids_dir=settings.bids_dir, out_dir=settings.out_dir)
    runs = add_run([_names_of_files(run) for run in _stored_runs(path)], plain)
    raw = link_to(settings.bids_dir, settings.out_dir)
    content = {
        "Name": "efface: defacing and its effects",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "efface", "Version": __version__}],
        "SourceDatasets": [{"URL": raw}],
        "DatasetLinks": {RAW: raw},
        KEY: {**runs[-1], RUNS: runs},
    }
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode(), force=True)


def _names_of_files(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with the names of files and folders in place of their paths."""
    nested = {key: options.get(key) or {} for key in ("MethodParameters", "SegmenterParameters")}
    files = names_only({key: options[key] for key in ("SlantWeights", "RescanPairs") if key in options})
    parameters = {
        key: {name: names_only(own) for name, own in of.items()} for key, of in nested.items() if key in options
    }
    return {**options, **files, **parameters}


def add_run(runs: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Add a run to the list of runs, joined with those that differ in the participants only.

    Parameters
    ----------
    runs
        Earlier runs, in order.
    run
        The new one.
    """
    kept = [dict(old) for old in runs if not (_same_but_labels(old, run) and _covers(run[LABELS], old[LABELS]))]
    new = dict(run)
    if kept and _same_but_labels(kept[-1], run):
        old = kept.pop()[LABELS]
        new[LABELS] = sorted({*old, *run[LABELS]}) if old and run[LABELS] else []
    return [*kept, new]


def _same_but_labels(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return {**one, LABELS: None} == {**other, LABELS: None}


def _covers(labels: Sequence[str], others: Sequence[str]) -> bool:
    """Whether a run of these participants includes all of the others; no labels are all participants."""
    return not labels or (bool(others) and set(others) <= set(labels))


def _stored_runs(path: Path) -> list[dict[str, Any]]:
    """Return the runs that an earlier description lists; none where there is no such list."""
    try:
        runs = parse_json(path.read_bytes())[KEY][RUNS]
        return [dict(run) for run in runs if LABELS in run]
    except (OSError, ValueError, KeyError, TypeError):
        return []
