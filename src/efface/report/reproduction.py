"""The commands that make a study again, rendered from the settings that the study stores.

See `efface.study.stored_settings` for the stored keys. Keys that an older study lacks are left out.
"""

import json
import pprint
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SHOWN_SEGMENTER_PARAMETERS = {"slant": ("weights",)}
"""Parameters of segmenters that have an option of ``efface study`` of their own."""


def commands(settings: Mapping[str, Any], raw: str, out_dir: Path) -> str:
    """Render all runs of a study, in order, and the group level.

    Parameters
    ----------
    settings
        What ``dataset_description.json`` keeps under ``Efface``.
    raw
        Path of the data set, or what stands for it.
    out_dir
        Output of the study, or what stands for it.

    Returns
    -------
    str
        Shell commands, one a line; for a run that the command line cannot express, Python code instead.
    """
    runs = settings.get("Runs") or [settings]
    made = [_python(run, raw, out_dir) if needs_python(run) else participant_command(run, raw, out_dir) for run in runs]
    group = shlex.join(["efface", "study", raw, str(out_dir), "group"])
    return "\n".join([*made, group])


def needs_python(run: Mapping[str, Any]) -> bool:
    """Whether a run has parameters that `efface study` has no option for."""
    if any((run.get("MethodParameters") or {}).values()):
        return True
    own = run.get("SegmenterParameters") or {}
    return any(set(params) - set(SHOWN_SEGMENTER_PARAMETERS.get(name, ())) for name, params in own.items())


def participant_command(run: Mapping[str, Any], raw: str, out_dir: Path) -> str:
    """Render one run as a shell command."""
    words = ["efface", "study", raw, str(out_dir), "participant", "--methods", ",".join(run["Methods"])]
    words += ["--segmenter", ",".join(run.get("Segmenters") or [run["Segmenter"]])]
    for key, option in (("Original", "--original"), ("Measures", "--measures")):
        words += [option, ",".join(run[key])] if run.get(key) else []
    for key, option in (
        ("Rescan", "--rescan"), ("RescanPairs", "--rescan-pairs"), ("Header", "--header"),
        ("SlantWeights", "--slant-weights"),
    ):  # fmt: skip
        words += [option, str(run[key])] if run.get(key) else []
    words += ["--keep-rescans"] if run.get("KeepRescans") else []
    words += [word for key in run.get("SidecarKeep") or () for word in ("--sidecar-keep", key)]
    words += ["--step-limit", f"{run['StepLimit']:g}"] if run.get("StepLimit") else []
    words += ["--bids-filter", json.dumps({"t1w": run["BidsFilter"]})] if run.get("BidsFilter") else []
    for key, option in (("ProtectBrain", "--protect-brain"), ("SkipBidsValidation", "--skip-bids-validation")):
        words += [option] if run.get(key) else []
    for key, option in (("ParticipantLabels", "--participant-label"), ("SessionLabels", "--session-label")):
        words += [option, *run[key]] if run.get(key) else []
    return shlex.join(words)


def _python(run: Mapping[str, Any], raw: str, out_dir: Path) -> str:
    """Render one run as Python code."""
    segmenters: Sequence[str] = run.get("Segmenters") or [run["Segmenter"]]
    settings = {
        "bids_dir": raw,
        "out_dir": str(out_dir),
        "methods": tuple(run["Methods"]),
        "segmenter": segmenters[0],
        "also": tuple(segmenters[1:]),
        "protect_brain": bool(run.get("ProtectBrain")),
        "method_params": dict(run.get("MethodParameters") or {}),
        "originals": tuple(run.get("Original") or ()),
        "segmenter_params": dict(run.get("SegmenterParameters") or {}),
    }
    stored = (
        ("Rescan", "rescan"), ("RescanPairs", "rescan_pairs"), ("Header", "header"), ("StepLimit", "step_limit_s"),
        ("KeepRescans", "keep_rescans"),
    )  # fmt: skip
    settings |= {name: run[key] for key, name in stored if run.get(key)}
    settings |= {"sidecar_keep": tuple(run["SidecarKeep"])} if run.get("SidecarKeep") else {}
    settings |= {"measures": tuple(run["Measures"])} if run.get("Measures") else {}
    chosen = {"subjects": run.get("ParticipantLabels") or [], "sessions": run.get("SessionLabels") or []}
    options = [f"validate={not run.get('SkipBidsValidation')}"]
    lines = ["# Python, because parameters were set that the command line has no option for", "import efface"]
    if run.get("BidsFilter"):
        lines.append("from efface.bids.filters import load_filter")
        options.append(f"bids_filter=load_filter({json.dumps({'t1w': run['BidsFilter']})!r})")
    lines.append(f"settings = efface.Settings(**{pprint.pformat(settings, width=100, sort_dicts=False)})")
    lines.append(f"efface.Study(settings, {', '.join(options)}).run(**{chosen!r})")
    return "\n".join(lines)
