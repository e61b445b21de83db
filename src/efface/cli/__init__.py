"""The command line: parse, call, print. Heavy imports happen inside the command that needs them."""

import argparse
import contextlib
import io
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from efface._version import __version__
from efface.bids.derivatives import UNNAMED_SEGMENTER
from efface.errors import EffaceError, InputError, OutputError, one_line
from efface.io.scratch import clean_up

DATASETS = ("kirby21", "oasis3")
SLANT = "slant"
TRAINERS = (SLANT, "defacer", "priors")
DEMO_METHODS = "quickshear,pydeface"
DONE, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
EPILOG = "Exit codes: 0 all done; 1 some scans failed (listed at the end); 2 usage or input error (one line on stderr)."


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):  # a file name need not be text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    options = build_parser().parse_args(argv)
    try:
        clean_up()
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except EffaceError as error:
        _complain(str(error))
        return USAGE
    except KeyboardInterrupt:
        _complain("interrupted; the same command goes on from here")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has left
        sys.stderr.close()
        return DONE


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say it in one line."""
        _complain(f"{message} (see `{self.prog} --help`)")
        raise SystemExit(USAGE)


def build_parser() -> argparse.ArgumentParser:
    """Describe every command and option."""
    parser = _Parser(
        prog="efface", description="Remove faces from head MRI, and measure what that costs.", epilog=EPILOG
    )
    parser.add_argument("--version", action="version", version=f"efface {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    _add_deface(commands)
    _add_segment(commands)
    _add_compare(commands)
    _add_qc(commands)
    _add_study(commands)
    _add_report(commands)
    _add_review(commands)
    _add_dataset(commands)
    _add_demo(commands)
    _add_train(commands)
    _command(commands, "methods", _methods, "list what can be run here, and how it works")
    return parser


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text}.".capitalize())
    parser.set_defaults(run=run)
    return parser


def _add_deface(commands: Any) -> None:
    parser = _command(commands, "deface", _deface, "remove the face from one scan")
    parser.add_argument("scan", metavar="IN", help="NIfTI or MGH file of one head, or the folder of its DICOM files")
    parser.add_argument("out", metavar="OUT", type=Path, help="where the defaced scan goes")
    parser.add_argument("--series", type=int, metavar="N", help="of a DICOM folder with several series, the one to take")
    parser.add_argument("--method", default="pydeface", metavar="NAME", help="see `efface methods` (default: pydeface)")
    parser.add_argument(
        "--implementation", default="native", metavar="I", help="native (default), or original: the program on PATH"
    )
    parser.add_argument("--program", metavar="PATH", help="where the original program is, instead of PATH")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the method")
    parser.add_argument("--brain-mask", metavar="M", help="brain mask on the scan's grid, instead of finding the brain")
    parser.add_argument(
        "--no-protect-brain", action="store_true", help="let the method cut into the brain, as published"
    )
    parser.add_argument(
        "--apply-to", nargs=2, action="append", default=[], metavar=("IMG", "OUT"),
        help="deface another image of the same person alike; registered if it is on another grid; may be repeated",
    )  # fmt: skip
    parser.add_argument("--mask-out", type=Path, metavar="M", help="write which voxels changed (1 = changed)")
    _header_option(parser)
    parser.add_argument("--force", action="store_true", help="overwrite outputs that exist")


def _add_segment(commands: Any) -> None:
    parser = _command(commands, "segment", _segment, "segment the brain into the 132 BrainCOLOR labels")
    parser.add_argument("scan", metavar="IN", help="NIfTI or MGH file of one head")
    parser.add_argument("out", metavar="OUT", type=Path, help="where the labels go (.nii or .nii.gz)")
    parser.add_argument("--segmenter", metavar="NAME", help=f"see `efface methods` (default: {UNNAMED_SEGMENTER})")
    parser.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the segmenter"
    )
    _slant_option(parser)
    parser.add_argument("--volumes", type=Path, metavar="T.tsv", help="write volumes in ml here")
    parser.add_argument("--force", action="store_true", help="overwrite outputs that exist")


def _add_compare(commands: Any) -> None:
    parser = _command(commands, "compare", _compare, "Dice of two segmentations: whole brain, nine regions, 132 labels")
    parser.add_argument("a", metavar="SEG_A", help="labels, BrainCOLOR ids")
    parser.add_argument("b", metavar="SEG_B", help="labels on the same grid")
    parser.add_argument("--out", type=Path, metavar="T.tsv", help="write all rows here; n/a = empty in both")
    parser.add_argument("--force", action="store_true", help="overwrite the table if it exists")


def _add_qc(commands: Any) -> None:
    parser = _command(
        commands, "qc", _qc, "judge a defaced scan: Success, Failure I (face left), Failure II (brain cut)"
    )
    parser.epilog = "Exit code 0 for any verdict; 2 where none can be given."
    parser.add_argument("original", metavar="ORIGINAL", help="the scan before defacing")
    parser.add_argument("defaced", metavar="DEFACED", help="the same scan defaced, by any program")
    parser.add_argument("--json", type=Path, metavar="F", help="write verdict and evidence here")
    parser.add_argument(
        "--brain-mask", metavar="M", help="brain mask on the original's grid, instead of finding the brain"
    )
    parser.add_argument("--force", action="store_true", help="overwrite the JSON file if it exists")


def _add_study(commands: Any) -> None:
    parser = _command(commands, "study", _study, "deface, segment and compare a whole BIDS data set (a BIDS App)")
    parser.add_argument("bids_dir", metavar="BIDS_DIR", type=Path, help="BIDS data set with T1w scans")
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path, help="where results go, a BIDS derivative")
    parser.add_argument("level", choices=("participant", "group"), help="per scan; or tables, figures and report")
    parser.add_argument("--participant-label", nargs="+", default=[], metavar="L", help="only these subjects")
    parser.add_argument("--session-label", nargs="+", default=[], metavar="L", help="only these sessions")
    parser.add_argument(
        "--bids-filter", "--bids-filter-file", dest="bids_filter", metavar="FILE|JSON",
        help="only T1w scans whose entities match, as in fMRIPrep: {\"t1w\": {\"acquisition\": \"mprage\", \"run\": 1}}",
    )  # fmt: skip
    parser.add_argument("--methods", default="all", metavar="A,B", help="defacing methods, by commas (default: all)")
    parser.add_argument(
        "--original",
        default="",
        metavar="A,B",
        help="of these methods run the original programs, which must be installed",
    )
    parser.add_argument(
        "--segmenter", metavar="A,B", help=f"the first is reported, all are run (default: {UNNAMED_SEGMENTER})"
    )
    _slant_option(parser)
    parser.add_argument("--protect-brain", action="store_true", help="keep the brain out of every edit")
    parser.add_argument(
        "--measures", default="dice", metavar="A,B", help="dice (default; always), volume, distance, by commas"
    )
    parser.add_argument(
        "--rescan", default="affine", metavar="T",
        help="how a subject's two sessions are registered: rigid, affine (default), deformable; none: no rescans",
    )  # fmt: skip
    _header_option(parser)
    parser.add_argument("--jobs", type=int, metavar="N", help="scans at once (default: what cores and memory allow)")
    parser.add_argument("--memory", type=float, metavar="GB", help="of a worker, which is ended where it needs more")
    parser.add_argument(
        "--cluster", metavar="C", help="tcp://HOST:PORT of a dask scheduler, or slurm, pbs, sge, lsf (docs/scale.md)"
    )
    parser.add_argument("--cluster-config", type=Path, metavar="F", help="YAML: what to ask the batch system for")
    parser.add_argument(
        "--step-limit", type=float, default=7200.0, metavar="S", help="seconds a step may take (default: 7200)"
    )
    parser.add_argument("--skip-bids-validation", action="store_true", help="accept a folder without description")
    _originals_option(parser)


def _add_report(commands: Any) -> None:
    parser = _command(commands, "report", _report, "rebuild figures and report.html from a study's tables")
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path, help="output of `efface study`")
    _originals_option(parser)


def _add_dataset(commands: Any) -> None:
    parser = _command(commands, "dataset", _dataset, "put a published download into BIDS; the download is not changed")
    parser.add_argument("name", choices=DATASETS, help="Kirby 21 (KKI2009) of NITRC, or OASIS-3")
    parser.add_argument("source", metavar="SRC", type=Path, help="folder of the download")
    parser.add_argument("bids_dir", metavar="BIDS_DIR", type=Path, help="where the data set goes, outside SRC")
    parser.add_argument("--link", action="store_true", help="make symbolic links instead of copies")
    kirby = parser.add_argument_group("kirby21")
    kirby.add_argument(
        "--contrasts", metavar="A,B", help="of MPRAGE, FLAIR and T2w (default: MPRAGE, which the study reads)"
    )
    kirby.add_argument(
        "--pairs", type=Path, metavar="FILE", help="a table scan, subject[, session] instead of the published mapping"
    )
    oasis = parser.add_argument_group("oasis3")
    oasis.add_argument(
        "--subjects", type=int, metavar="N", help="people chosen at random, one T1w scan each (default: 179, the paper)"
    )
    oasis.add_argument("--seed", type=int, metavar="S", help="of that choice (default: 0)")
    oasis.add_argument("--all", action="store_true", help="every T1w scan of everybody")


def _add_review(commands: Any) -> None:
    parser = _command(commands, "review", _review, "look at every defaced scan in the browser, and vote")
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path, help="output of `efface study`")
    parser.add_argument("--port", type=int, default=0, metavar="P", help="of the local page (default: a free one)")
    parser.add_argument("--reviewer", default="", metavar="NAME", help="whose votes these are (default: the page asks)")
    parser.add_argument(
        "--blind",
        action="store_true",
        help="show the automatic verdict and others' votes only after the reviewer's own; in random order",
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address")


def _add_demo(commands: Any) -> None:
    parser = _command(commands, "demo", _demo, "run a whole study on an embedded cohort of four virtual people")
    parser.add_argument("out_dir", metavar="OUT_DIR", nargs="?", type=Path, default=Path("efface-demo"))
    parser.add_argument(
        "--methods",
        default=DEMO_METHODS,
        metavar="A,B",
        help=f"as in `efface study` (default: {DEMO_METHODS}, for time)",
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="scans at once (default: what cores and memory allow)")


def _add_train(commands: Any) -> None:
    parser = _command(commands, "train", _train, "make our own weights and priors again from labelled heads")
    parser.add_argument("what", choices=TRAINERS, help="`efface train WHAT --help` says more")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the training command")


def _originals_option(parser: argparse.ArgumentParser) -> None:
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--include-originals",
        action="store_true",
        help="show undefaced scans in the report and its figures, which is then not for sharing",
    )
    choice.add_argument("--no-originals", action="store_true", help="what is done anyway; for older scripts")


def _header_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--header", choices=("scrub", "keep"), default="scrub",
        help="scrub (default): what may name somebody goes from headers and sidecars (docs/privacy.md); keep: it stays",
    )  # fmt: skip


def _slant_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--slant-weights", metavar="DIR", help="folder of the 27 published SLANT networks, instead of our own"
    )


def _deface(options: argparse.Namespace) -> int:
    from efface.io.dicom import as_image

    outputs = [options.out, *(Path(out) for _, out in options.apply_to)]
    given = [options.scan, *(image for image, _ in options.apply_to)]
    _check_distinct(given, [*outputs, options.mask_out])
    anonymous = options.header != "keep"
    with contextlib.ExitStack() as stack:
        images = [
            str(stack.enter_context(as_image(image, None if i else options.series, anonymous=anonymous)))
            for i, image in enumerate(given)
        ]
        for folder in (one for one, image in zip(given, images, strict=True) if one != image and Path(one).is_dir()):
            print(f"{folder}: converted by dcm2niix; the headers of the DICOM files themselves are out of scope")
        return _deface_images(options, images, outputs)


def _deface_images(options: argparse.Namespace, images: Sequence[str], outputs: Sequence[Path]) -> int:
    from efface import _api as api
    from efface.io.atomic import check_output
    from efface.parameters import pairs_to_mapping

    sidecars, odd = _sidecars(images, outputs, options.header)
    for path in filter(None, [*outputs, options.mask_out, *(made.path for made in sidecars)]):
        check_output(path, force=options.force)
    start = time.perf_counter()
    result = api.deface_image(
        images[0],
        options.method,
        {**pairs_to_mapping(options.param), **({"program": options.program} if options.program else {})},
        implementation=options.implementation,
        brain_mask=options.brain_mask,
        protect_brain=not options.no_protect_brain,
        apply_to=images[1:],
        header=options.header,
    )
    for scan, path in zip([result.scan, *result.others], outputs, strict=True):
        scan.save(path, force=options.force)
    if options.mask_out:
        result.original.save_like(result.edit.mask, options.mask_out, force=options.force)
    for made in sidecars:
        made.write(force=options.force)
    _warn((*result.warnings, *odd))
    changed = int(result.edit.mask.sum())
    voxel_ml = float(result.original.spacing_mm.prod()) / 1000
    saved = result.edit.protected_voxels
    print(f"{options.out}: {options.method} changed {changed} voxels ({changed * voxel_ml:.0f} ml)", end="")
    print("; brain not protected" if options.no_protect_brain else f"; {saved} voxels of brain were protected", end="")
    print(f"; {time.perf_counter() - start:.0f} s")
    _say_removed(result.removed, [key for made in sidecars for key in made.removed], options.header)
    return DONE


def _sidecars(images: Sequence[str], outputs: Sequence[Path], policy: str) -> tuple[list[Any], list[str]]:
    """The sidecars that go along with defaced images, and warnings about those that do not."""
    from efface.io.deidentify import Sidecar

    found: list[Any] = []
    odd: list[str] = []
    for image, out in zip(images, outputs, strict=True):
        made, warnings = Sidecar.of(Path(image), out, policy)
        found += [made] if made else []
        odd += warnings
    return found, odd


def _say_removed(fields: Sequence[str], keys: Sequence[str], policy: str) -> None:
    """One line about what may have named somebody."""
    if policy == "keep":
        print("header: kept with all its text (--header keep)")
        return
    parts = [f"removed {', '.join(fields)}"] if fields else ["no text to remove"]
    parts += [f"sidecar: removed {', '.join(dict.fromkeys(keys))}"] if keys else []
    print(f"header: {'; '.join(parts)}")


def _segment(options: argparse.Namespace) -> int:
    from efface import _api as api
    from efface.io.atomic import check_output

    _check_distinct([options.scan], [options.out, options.volumes])
    for path in filter(None, [options.out, options.volumes]):
        check_output(path, force=options.force)
    segmenter = options.segmenter or UNNAMED_SEGMENTER
    params = {**_parameters(options.param), **_weights(options.slant_weights, (segmenter,)).get(SLANT, {})}
    result = api.segment_image(options.scan, segmenter, params)
    result.scan.save_like(result.labels.values, options.out, force=options.force)
    volumes = result.volumes
    if options.volumes:
        from efface.study.records import write_table

        write_table(options.volumes, volumes)
    _warn((*result.scan.warnings, *result.labels.warnings))
    present = int(((volumes.level == "label") & (volumes.volume_ml > 0)).sum())
    print(f"{options.out}: {present} labels, {volumes.volume_ml.iloc[0]:.0f} ml")
    return DONE


def _compare(options: argparse.Namespace) -> int:
    from efface import _api as api
    from efface.io.atomic import check_output
    from efface.study.records import write_table

    if options.out:
        check_output(options.out, force=options.force)
    frame = api.dice(options.a, options.b)
    _warn(frame.attrs["warnings"])
    if options.out:
        write_table(options.out, frame)
    unions = frame[frame.level != "label"]
    for region, value in zip(unions.region, unions.dice, strict=True):
        print(f"{region:<14}{'n/a' if math.isnan(value) else format(value, '.4f')}")
    labels = frame[frame.level == "label"].dice
    mean = "n/a" if labels.isna().all() else f"{labels.mean():.4f}"
    print(f"{'mean of labels':<14}{mean}  ({labels.notna().sum()} of {len(labels)} present)")
    return DONE


def _qc(options: argparse.Namespace) -> int:
    import json

    from efface import _api as api
    from efface.io.atomic import check_output, write_atomically

    _check_distinct([options.original, options.defaced], [options.json])
    if options.json:
        check_output(options.json, force=options.force)
    verdict = api.qc(options.original, options.defaced, brain_mask=options.brain_mask)
    if options.json:
        content = json.dumps(verdict.to_json(), indent=2) + "\n"
        write_atomically(options.json, content.encode(), force=options.force)
    _warn(verdict.warnings)
    print(verdict.verdict)
    print(f"score   {verdict.score:.2f}  (a failure from 0.50 on)")
    print(f"reason  {verdict.reason}")
    for line in verdict.lines():
        print(line)
    return DONE


def _chosen(methods: str) -> tuple[str, ...]:
    from efface.defacing import METHODS

    return tuple(METHODS) if methods == "all" else _names(methods)


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _weights(folder: str | None, segmenters: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Parameters by segmenter: where SLANT's published networks are."""
    if folder is None:
        return {}
    if SLANT not in segmenters:
        msg = f"--slant-weights goes with --segmenter slant; received {', '.join(segmenters)}"
        raise InputError(msg)
    return {SLANT: {"weights": str(Path(folder).resolve())}}


def _study(options: argparse.Namespace) -> int:
    from efface.bids.filters import load_filter
    from efface.study import Settings, Study
    from efface.study.backends import cluster_of

    if options.level == "group":
        return _group(options.out_dir, include_originals=options.include_originals)
    segmenters = _names(options.segmenter or "") or (UNNAMED_SEGMENTER,)
    settings = Settings(
        options.bids_dir,
        options.out_dir,
        _chosen(options.methods),
        segmenters[0],
        protect_brain=options.protect_brain,
        originals=_names(options.original),
        also=segmenters[1:],
        segmenter_params=_weights(options.slant_weights, segmenters),
        measures=_names(options.measures),
        rescan=options.rescan,
        header=options.header,
        step_limit_s=options.step_limit,
    )
    bids_filter = load_filter(options.bids_filter) if options.bids_filter else None
    study = Study(settings, validate=not options.skip_bids_validation, bids_filter=bids_filter)
    cluster = cluster_of(options.cluster, options.jobs, memory_gb=options.memory, config=options.cluster_config)
    return _participants(study, cluster, options.participant_label, options.session_label)


def _participants(study: Any, cluster: Any, subjects: Sequence[str] = (), sessions: Sequence[str] = ()) -> int:
    from efface.cli.progress import show_progress

    with show_progress() as progress:
        summary = study.run(subjects=subjects, sessions=sessions, cluster=cluster, progress=progress)
    out_dir = study.settings.out_dir
    rescans = f", {summary.rescans} rescans, {summary.rescans_computed} computed" if summary.rescans else ""
    print(f"{out_dir}: {summary.scans} scans, {summary.computed} computed{rescans}, {len(summary.failures)} failures")
    for row in summary.failures:
        print(one_line(f"failed: {row.scan} {row.method} ({row.measure}): {row.reason}"), file=sys.stderr)
    return SOME_FAILED if summary.failures else DONE


def _group(out_dir: Path, *, include_originals: bool) -> int:
    from efface.report import build_report
    from efface.study import collect, out_dir_of

    tables = collect(out_dir_of(out_dir))
    print(f"{out_dir}: {tables.dice.scan.nunique()} scans in dice.tsv, {len(tables.failures)} failures")
    print(f"report: {build_report(out_dir, include_originals=include_originals).resolve()}")
    return DONE


def _report(options: argparse.Namespace) -> int:
    from efface.report import build_report
    from efface.study import out_dir_of

    out_dir = out_dir_of(options.out_dir)
    print(f"report: {build_report(out_dir, include_originals=options.include_originals).resolve()}")
    return DONE


def _dataset(options: argparse.Namespace) -> int:
    from efface.bids.importers import IMPORTERS

    done = IMPORTERS[options.name](options.source, options.bids_dir, link=options.link, **_dataset_options(options))
    _warn(done.warnings)
    print(f"{options.bids_dir}: {done.scans} scans of {done.subjects} subjects, {done.written} files written")
    return DONE


def _dataset_options(options: argparse.Namespace) -> dict[str, Any]:
    """What was given of the data set's own options; another data set's are refused."""
    own = {"kirby21": ("contrasts", "pairs"), "oasis3": ("subjects", "seed", "all")}
    values = {name: getattr(options, name) for names in own.values() for name in names}
    given = {name: value for name, value in values.items() if value is not None and value is not False}
    strange = sorted(set(given) - set(own[options.name]))
    if strange:
        msg = f"--{strange[0]} is not an option of {options.name}: leave it out (see `efface dataset --help`)"
        raise InputError(msg)
    if "contrasts" in given:
        given["contrasts"] = _names(given["contrasts"])
    if given.pop("all", False):
        if "subjects" in given:
            msg = "--all takes everybody and --subjects some: give one of them"
            raise InputError(msg)
        given["subjects"] = None
    return given


def _review(options: argparse.Namespace) -> int:
    from efface.review import serve
    from efface.study.ratings import votes_path

    def say(url: str) -> None:
        print(f"review: {url}\nonly this machine can open it; Ctrl-C ends", flush=True)

    session = serve(
        options.out_dir,
        port=options.port,
        reviewer=options.reviewer,
        blind=options.blind,
        open_browser=not options.no_browser,
        say=say,
    )
    log = session.log()
    print(f"{votes_path(options.out_dir)}: {len(log.last)} votes of {len(session.cases)} cases")
    if log.broken:
        _warn([f"{log.broken} lines there cannot be read (cut short by a crash?) and are left out"])
    return DONE


def _demo(options: argparse.Namespace) -> int:
    from efface.simulation.cohort import make_cohort
    from efface.study import Settings, Study
    from efface.study.backends import cluster_of

    start = time.perf_counter()
    bids_dir, out_dir = options.out_dir / "cohort", options.out_dir / "efface"
    print(f"making four virtual people, two sessions each, in {bids_dir}", flush=True)
    make_cohort(bids_dir)
    code = _participants(Study(Settings(bids_dir, out_dir, _chosen(options.methods))), cluster_of(None, options.jobs))
    _group(out_dir, include_originals=True)  # they do not exist
    print(f"{time.perf_counter() - start:.0f} s")
    return code


def _methods(options: argparse.Namespace) -> int:
    from efface.defacing import METHODS
    from efface.segmentation import SEGMENTERS

    print("defacing methods (efface deface --method)")
    for spec in METHODS.values():
        print(f"  {spec.name:<12} native    {spec.summary} ({spec.reference})")
        print(f"  {'':<12} original  {_original(spec)}")
    print("segmenters (efface segment --segmenter)")
    for name, segmenter in SEGMENTERS.items():
        print(f"  {name:<12} native    {segmenter.summary}")
    return DONE


def _train(options: argparse.Namespace) -> int:
    import importlib

    main: Callable[[Sequence[str]], int] = importlib.import_module(f"efface.training.{options.what}").main
    return main(options.arguments)


def _original(method: Any) -> str:
    from efface.defacing.external import find_program
    from efface.errors import MissingDependencyError

    if method.external is None:
        return f"cannot be run: {method.external_note or 'there is none'}"
    try:
        return f"at {find_program(method.name)}"
    except MissingDependencyError:
        return f"not installed: {method.external.install}"


def _parameters(pairs: Sequence[str]) -> dict[str, Any]:
    """Split ``name=value``; numbers become numbers."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            msg = f"--param must look like name=value, for example buffer=10; received {pair}"
            raise InputError(msg)
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = text
    return found


def _check_distinct(inputs: Sequence[str], outputs: Sequence[Path | None]) -> None:
    """Refuse to write over an input, or two results to one file."""
    sources = {Path(os.path.realpath(i)) for i in inputs}  # unlike resolve(), it takes a link to itself
    seen: set[Path] = set()
    for path in (p.resolve() for p in outputs if p):
        if path in sources:
            msg = f"output {path} is an input: the undefaced scan would be lost; choose another path"
            raise OutputError(msg)
        if path in seen:
            msg = f"output {path} is given twice: choose another path for one of them"
            raise OutputError(msg)
        seen.add(path)


def _warn(warnings: Sequence[str]) -> None:
    for warning in dict.fromkeys(warnings):
        print(f"warning: {one_line(warning)}", file=sys.stderr)


def _complain(message: str) -> None:
    print(f"efface: error: {one_line(message)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
