"""How a study was made: its settings, versions and input hashes, the command to repeat it, the words to describe it."""

import importlib.resources
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from efface.bids.derivatives import GroupPaths, UnitPaths
from efface.errors import InputError
from efface.report.image_loading import stored
from efface.report.inputs import Evidence
from efface.segmentation import SEGMENTERS
from efface.visualization.palette import counted, listed, title_of

METHOD_KEYS: Mapping[str, str] = {
    "defacer": "jeong2020",
    "quickshear": "schimke2011",
    "mri_deface": "bischoffgrethe2007",
    "pydeface": "gulban2022",
    "fsl_deface": "alfaroalmagro2018",
    "mri_reface": "schwarz2021",
}
SEGMENTER_KEYS: Mapping[str, tuple[str, ...]] = {
    "atlas": ("klein2010", "fisch2024", "yushkevich2016"),
    "slant": ("huo2019", "klein2010"),
}
"""BrainCOLOR; the brain mask; the deformable registration."""


@dataclass(frozen=True)
class Record:
    """What a report says about the making of a study.

    Attributes
    ----------
    settings
        What ``dataset_description.json`` keeps under ``Efface``.
    raw
        The data set.
    made_by
        Version of efface that computed the results.
    versions
        Package to the versions that the records of the results name; more than one where a study was continued after an
        update.
    inputs
        Scan to the SHA-256 of its file.
    implementations
        Method to ``native`` or ``original``, or both.
    """

    settings: dict[str, Any]
    raw: str
    made_by: str
    versions: dict[str, list[str]]
    inputs: dict[str, str]
    implementations: dict[str, list[str]]

    @property
    def methods(self) -> list[str]:
        """Methods of the study, in the order they were asked for."""
        return [str(m) for m in self.settings["Methods"]]

    @property
    def segmenter(self) -> str:
        """Name of the segmenter."""
        return str(self.settings["Segmenter"])

    def command(self, out_dir: Path) -> str:
        """The commands that make this study again."""
        words = ["efface", "study", self.raw, str(out_dir), "participant", "--methods", ",".join(self.methods)]
        words += ["--segmenter", ",".join(self.settings.get("Segmenters") or [self.segmenter])]
        originals = [m for m, kinds in self.implementations.items() if "original" in kinds]
        words += ["--original", ",".join(originals)] if originals else []
        words += ["--measures", ",".join(self.settings["Measures"])] if self.settings.get("Measures") else []
        words += ["--rescan", self.settings["Rescan"]] if self.settings.get("Rescan") else []
        words += ["--protect-brain"] if self.settings.get("ProtectBrain") else []
        group = ["efface", "study", self.raw, str(out_dir), "group"]
        return shlex.join(words) + "\n" + shlex.join(group)


def read_record(paths: GroupPaths, units: Sequence[UnitPaths]) -> Record:
    """Gather the record from the study's description and the JSON files beside its results.

    Raises
    ------
    InputError
        If the description is not efface's.
    """
    try:
        content = json.loads(paths.description.read_text(encoding="utf-8"))
        settings = dict(content["Efface"])
        raw = unquote(urlparse(content["DatasetLinks"]["raw"]).path)
        made_by = str(content["GeneratedBy"][0]["Version"])
        methods = [str(m) for m in settings["Methods"]]
        str(settings["Segmenter"])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        msg = f"{paths.description} is not efface's: run `efface study BIDS {paths.out_dir} participant` again"
        raise InputError(msg) from error
    versions: dict[str, set[str]] = {}
    inputs: dict[str, str] = {}
    implementations: dict[str, set[str]] = {m: set() for m in methods}
    for unit in units:
        for method in methods:
            made = stored(unit.defaced(method))
            recipe = made.get("Recipe") or {}
            if "input_sha256" in recipe:
                inputs[unit.stem] = str(recipe["input_sha256"])
            if "Implementation" in made:
                implementations[method].add(str(made["Implementation"]))
            for package, version in dict(recipe.get("versions") or {}).items():
                versions.setdefault(str(package), set()).add(str(version))
    return Record(
        settings,
        raw,
        made_by,
        {name: sorted(found) for name, found in versions.items()},
        inputs,
        {name: sorted(found) for name, found in implementations.items()},
    )


def paragraph(record: Record, tables: Evidence) -> str:
    """Describe the study as a paper's methods section would, with the keys of `bibliography`."""
    methods = [f"{title_of(m)} [@{METHOD_KEYS[m]}]{_kind(record, m)}" for m in record.methods if m in METHOD_KEYS]
    dice = tables.dice
    brain = (
        "Voxels of the brain mask and within 2 mm of it were kept out of every edit."
        if record.settings.get("ProtectBrain")
        else "The methods were measured as published, without protection of the brain."
    )
    keys = "; ".join(f"@{k}" for k in SEGMENTER_KEYS.get(record.segmenter, ()))
    summary = SEGMENTERS[record.segmenter].summary if record.segmenter in SEGMENTERS else record.segmenter
    said = [
        f"{counted(dice.scan.nunique(), 'T1-weighted scan')} of {counted(dice.subject.nunique(), 'subject')} "
        f"{'was' if dice.scan.nunique() == 1 else 'were'} defaced with {listed(methods)} as implemented in efface "
        f"{record.made_by} [@efface], following Gao et al. [@gao2022]. {brain}",
        f"The brain was segmented before and after defacing into 132 BrainCOLOR labels ({summary}) [{keys}].",
        "The effect of defacing was measured as the Dice coefficient [@dice1945] between the two segmentations, for the "
        "whole brain, nine regions and all labels.",
    ]
    if len(tables.volumes):
        said.append("Signed changes of volume were measured in ml and in percent of the original.")
    if len(tables.distances):
        said.append("The 95 % Hausdorff distance and the mean surface distance were measured in mm.")
    rescans = tables.rescan[tables.rescan.method.str.startswith("rescan-")]
    if len(rescans):
        kinds = listed(sorted(rescans.implementation.unique()))
        said.append(
            f"As a yardstick, the two sessions of {counted(rescans.subject.nunique(), 'subject')} were registered to "
            f"each other ({kinds}, weighted by the brain mask) and their segmentations compared in the same way."
        )
    tests = set(tables.statistics.test)
    if "summary" in tests:
        said.append("Intervals are bootstrap intervals over subjects.")
    if "wilcoxon" in tests:
        said.append(
            "Methods were compared by Friedman tests and paired Wilcoxon signed-rank tests, corrected by Holm's method "
            "[@holm1979]."
        )
    if "noninferiority" in tests:
        said.append(
            "Whether an effect is smaller than that of a rescan was tested by paired non-inferiority with the rescans' "
            "median effect as the margin."
        )
    if len(tables.failures):
        said.append(
            f"{counted(tables.failures.scan.nunique(), 'scan')} could not be processed completely and "
            f"{'is' if tables.failures.scan.nunique() == 1 else 'are'} listed with the reason."
        )
    return " ".join(said)


def _kind(record: Record, method: str) -> str:
    return " (original program)" if record.implementations.get(method) == ["original"] else ""


def bibliography(record: Record, tables: Evidence) -> str:
    """BibTeX of everything that `paragraph` cites, in order, and of efface."""
    keys = list(dict.fromkeys(re.findall(r"@([a-z]+\d*)", paragraph(record, tables))))
    entries = _entries()
    entries["efface"] = (
        "@software{efface,\n  author = {{The efface developers}},\n"
        "  title = {efface: remove faces from head {MRI}, and measure what that costs},\n"
        f"  version = {{{record.made_by}}}\n}}"
    )
    return "\n\n".join(entries[key] for key in keys if key in entries)


def _entries() -> dict[str, str]:
    """Citations by key, as they stand in ``citations.bib``."""
    text = importlib.resources.files(__package__).joinpath("citations.bib").read_text(encoding="utf-8")
    found = re.split(r"\n(?=@)", text.strip())
    return {entry[entry.index("{") + 1 : entry.index(",")]: entry.strip() for entry in found}
