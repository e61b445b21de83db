"""Verdicts in a study: one JSON file beside each defaced scan, which is judged again when its recipe changes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efface import quality
from efface.io.atomic import write_atomically
from efface.io.json_files import read_object
from efface.io.scan import Scan
from efface.quality import Judge
from efface.study import provenance
from efface.study.steps import StepContext, recipe_for


def judged(context: StepContext, judge: Judge, defaced: Scan, method: str) -> None:
    """Judge a defaced scan and write the verdict, unless one with the same recipe is there.

    Parameters
    ----------
    context
        The scan.
    judge
        Of the undefaced scan.
    defaced
        The scan after `method`.
    method
        A name in `efface.defacing.METHODS`.

    Raises
    ------
    OutputError
        If the verdict cannot be written.
    EffaceError
        If the scan cannot be judged, or the step was stopped.
    """
    path, source = context.paths.quality(method), context.source
    recipe = recipe_for(
        judge.anatomy.scan.sha256,
        defaced_sha256=defaced.sha256,
        check=dict(quality.settings()),
        data_sha256=provenance.defacing_data(),
    )
    if is_judged(path, recipe):
        return
    about = {"subject": source.subject, "session": source.session or "", "scan": source.stem, "method": method}
    about["implementation"] = context.settings.implementation(method)
    with context.timer.step(f"qc {method}"):
        write_verdict(path, context.shareable(judge.verdict(defaced).to_json()), about, recipe)


def is_judged(path: Path, recipe: Mapping[str, Any]) -> bool:
    """Whether a verdict made by exactly this recipe is there."""
    return provenance.is_same(read_object(path).get(provenance.KEY), provenance.as_json(recipe))


def write_verdict(path: Path, verdict: Mapping[str, Any], about: Mapping[str, str], recipe: Mapping[str, Any]) -> None:
    """Write verdict and evidence, with the defaced scan they are about and how they were made.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    content = {**verdict, "unit": dict(about), provenance.KEY: recipe}
    write_atomically(path, (json.dumps(content, indent=2, default=str) + "\n").encode(), force=True)
