"""The methods paragraph of a report: what was done, in words that can be pasted into a paper, with its references."""

import importlib.resources
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from efface.bids.derivatives import GroupPaths, UnitPaths
from efface.bids.shareable import shareable
from efface.defacing import METHODS
from efface.errors import InputError
from efface.io.json_files import parse_json
from efface.report.image_loading import read_sidecar
from efface.segmentation import SEGMENTERS, described
from efface.study import Tables
from efface.wording import counted, listed


@dataclass(frozen=True)
class Record:
    """How a study was made.

    Attributes
    ----------
    settings
        What ``dataset_description.json`` keeps under ``Efface``.
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


def read_record(paths: GroupPaths, units: Sequence[UnitPaths]) -> Record:
    """Gather the record from the study's description and the JSON files beside its results.

    Raises
    ------
    InputError
        If the description is not efface's.
    """
    try:
        content = parse_json(paths.description.read_bytes())
        settings = dict(shareable(dict(content["Efface"]), bids_dir=paths.out_dir, out_dir=paths.out_dir))
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
            made = read_sidecar(unit.defaced(method))
            recipe = made.get("Recipe") or {}
            if "input_sha256" in recipe:
                inputs[unit.stem] = str(recipe["input_sha256"])
            if "Implementation" in made:
                implementations[method].add(str(made["Implementation"]))
            for package, version in dict(recipe.get("versions") or {}).items():
                versions.setdefault(str(package), set()).add(str(version))
    return Record(
        settings,
        made_by,
        {name: sorted(found) for name, found in versions.items()},
        inputs,
        {name: sorted(found) for name, found in implementations.items()},
    )


def paragraph(record: Record, tables: Tables) -> str:
    """Describe the study as a paper's methods section would, with the keys of `bibliography`."""
    dice = tables.dice
    said = [
        f"{counted(dice.scan.nunique(), 'T1-weighted scan')} of {counted(dice.subject.nunique(), 'subject')} "
        f"{'was' if dice.scan.nunique() == 1 else 'were'} defaced with "
        f"{listed([_method(record, m) for m in record.methods])}. {_implementation(record)} {_protection(record)}",
        f"The brain was segmented before and after defacing into 132 BrainCOLOR labels {_segmenter(record)}.",
        "The effect of defacing was measured as the Dice coefficient [@dice1945] between the two segmentations, for the "
        "whole brain (the union of all labels, and all labels pooled), nine regions and all labels.",
    ]
    if len(tables.volumes):
        said.append("Signed changes of volume were measured in ml and in percent of the original.")
    if len(tables.distances):
        said.append("The 95 % Hausdorff distance and the mean surface distance were measured in mm.")
    rescans = tables.rescan[tables.rescan.method.isin(("rescan-1-2", "rescan-2-1"))]
    if len(rescans):
        kinds = listed(sorted(rescans.implementation.unique()))
        said.append(
            f"As a yardstick, the two sessions of {counted(rescans.subject.nunique(), 'subject')} were registered to "
            f"each other ({kinds}, weighted by the brain mask) and their segmentations compared in the same way."
        )
    halfway = tables.rescan[tables.rescan.method == "rescan-halfway"]
    if len(halfway):
        said.append(
            f"The two sessions of {counted(halfway.subject.nunique(), 'subject')} were each resampled once into the "
            "space half-way between them (rigid registration, weighted by the brain mask) and compared there."
        )
    if (tables.rescan.method == "unregistered").any():
        said.append(
            "Without registration or resampling, volumes of the two sessions were compared, each segmented on its own "
            "grid."
        )
    said += _statistics(tables)
    if len(tables.failures):
        said.append(
            f"{counted(tables.failures.scan.nunique(), 'scan')} could not be processed completely and "
            f"{'is' if tables.failures.scan.nunique() == 1 else 'are'} listed with the reason."
        )
    return " ".join(said)


def _statistics(tables: Tables) -> list[str]:
    """What was tested and how, as far as there is a result: an interval, or a p value."""
    statistics = tables.statistics
    tested = statistics[statistics.p.notna()]
    tests, between = set(tested.test), set(tested[tested.method != "rescan"].test)
    said = []
    if statistics.low[statistics.test == "summary"].notna().any():
        said.append("Intervals of medians are bootstrap intervals over subjects.")
    used = [words for test, words in _BETWEEN_METHODS.items() if test in between]
    if used:
        said.append(f"Methods were compared by {listed(used)}.")
    if "superiority" in tests:
        said.append(
            "Whether the effect of a method is smaller than that of a rescan was tested by a one-sided paired Wilcoxon "
            "test of each subject's effect against that of the subject's own rescan, at 5 %, and so was whether it is "
            "larger (two-sided error 10 %)."
        )
    if "tost" in tests:
        said.append(
            "Whether the mean volume is unchanged was tested by two one-sided t tests [@schuirmann1987]; the margin, "
            "the lower end of the interval of the median absolute change between rescans, comes from the same subjects."
        )
    if tests:
        said.append(
            "p values were corrected by Holm's method [@holm1979], first for the whole brain over all methods, then for "
            "the regions of each method behind its test on the whole brain."
        )
    passed = tables.passed().dice
    if len(passed):
        said.append(
            f"All results were also computed on the {counted(passed.scan.nunique(), 'scan')} that passed the quality "
            "check with every method, as by Gao et al. [@gao2023]."
        )
    return said


_BETWEEN_METHODS = {
    "friedman": "Friedman tests",
    "wilcoxon": "paired Wilcoxon signed-rank tests",
    "mixed model": "linear mixed models with a random intercept for each subject",
}


def _method(record: Record, name: str) -> str:
    """A method with its paper; one that this version does not know has no key."""
    if name not in METHODS:
        return f"{name} (unknown to this version of efface; cite its paper)"
    external = " (external program)" if record.implementations.get(name) == ["original"] else ""
    own = " (a method of efface's own, not published)" if METHODS[name].is_our_own else ""
    return f"{METHODS[name].title} [@{METHODS[name].citation}]{external}{own}"


def _implementation(record: Record) -> str:
    """Who implemented what was run."""
    published = [m for m in record.methods if m not in METHODS or not METHODS[m].is_our_own]
    native = [m for m in published if record.implementations.get(m) != ["original"]]
    if not published:
        return f"It was run by efface {record.made_by} [@efface]."
    if not native:
        return f"The external programs were run by efface {record.made_by} [@efface], following Gao et al. [@gao2022]."
    all_native = "The methods" if len(published) == len(record.methods) else "The published methods"
    which = all_native if native == published else "The others"
    return f"{which} were re-implemented in efface {record.made_by} [@efface], following Gao et al. [@gao2022]."


def _protection(record: Record) -> str:
    if record.settings.get("ProtectBrain"):
        return "Voxels of the brain mask and within 2 mm of it were kept out of every edit."
    return "The brain was not protected from the edits."


def _segmenter(record: Record) -> str:
    """How the segmenter works, with its papers."""
    if record.segmenter not in SEGMENTERS:
        return f"by {record.segmenter} (unknown to this version of efface; cite its paper)"
    segmenter = SEGMENTERS[record.segmenter]
    return f"({segmenter_works(record)}) [{'; '.join(f'@{key}' for key in segmenter.citations)}]"


def segmenter_works(record: Record) -> str:
    """How the segmenter works with the parameters of the study; in general, where this version does not know them."""
    stored = record.settings.get("SegmenterParameters") or {}
    try:
        return described(record.segmenter, dict(stored.get(record.segmenter) or {}))
    except (InputError, AttributeError, TypeError, ValueError):
        return SEGMENTERS[record.segmenter].summary


def bibliography(record: Record, tables: Tables) -> str:
    """BibTeX of everything that `paragraph` cites, in order, and of efface."""
    keys = list(dict.fromkeys(re.findall(r"@([a-z]+\d*)", paragraph(record, tables))))
    entries = citations()
    entries["efface"] = (
        "@software{efface,\n  author = {{The efface developers}},\n"
        "  title = {efface: remove faces from head {MRI}, and measure what that costs},\n"
        f"  version = {{{record.made_by}}}\n}}"
    )
    return "\n\n".join(entries[key] for key in keys)


def citations() -> dict[str, str]:
    """Citations by key, as they stand in ``citations.bib``."""
    text = importlib.resources.files(__package__).joinpath("citations.bib").read_text(encoding="utf-8")
    found = re.split(r"\n(?=@)", text.strip())
    return {entry[entry.index("{") + 1 : entry.index(",")]: entry.strip() for entry in found}
