"""``efface study``: the paper's experiments over a BIDS data set."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from efface.bids.derivatives import UNNAMED_SEGMENTER
from efface.cli import options as shared
from efface.errors import one_line

HELP = "deface, segment and compare a whole BIDS data set (a BIDS App)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("bids_dir", metavar="BIDS_DIR", type=Path, help="BIDS data set with T1w scans")
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path, help="where results go, a BIDS derivative")
    parser.add_argument("level", choices=("participant", "group"), help="per scan; or tables, figures and report")
    _add_selection(parser)
    _add_experiment(parser)
    _add_execution(parser)
    shared.add_include_originals(parser)
    parser.add_argument(
        "--no-privacy", action="store_true", help="group: do not attack the defaced scans (see `efface privacy`)"
    )


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--participant-label", nargs="+", default=[], metavar="L", help="only these subjects")
    parser.add_argument("--session-label", nargs="+", default=[], metavar="L", help="only these sessions")
    parser.add_argument(
        "--bids-filter", "--bids-filter-file", dest="bids_filter", metavar="FILE|JSON",
        help="only T1w scans whose entities match, as in fMRIPrep: {\"t1w\": {\"acquisition\": \"mprage\", \"run\": 1}}",
    )  # fmt: skip
    parser.add_argument("--skip-bids-validation", action="store_true", help="accept a folder without description")


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--methods", default="all", metavar="A,B", help="defacing methods, by commas (default: all)")
    parser.add_argument(
        "--original",
        default="",
        metavar="A,B",
        help="of these methods run the published programs, which must be installed",
    )
    parser.add_argument(
        "--segmenter", metavar="A,B", help=f"the first is reported, all are run (default: {UNNAMED_SEGMENTER})"
    )
    shared.add_slant_weights(parser)
    parser.add_argument(
        "--param", action="append", default=[], metavar="M.NAME=VALUE",
        help="a parameter of a method or segmenter, such as defacer.version=0.1; may be repeated (see `efface methods`)",
    )  # fmt: skip
    parser.add_argument("--protect-brain", action="store_true", help="keep the brain out of every edit")
    parser.add_argument(
        "--measures",
        default="dice",
        metavar="A,B",
        help="dice (default; always), volume (also compares sessions without resampling), distance, by commas",
    )
    parser.add_argument(
        "--rescan", default="affine", metavar="T",
        help="how a subject's two sessions are registered: rigid, affine (default), deformable; halfway: both are "
        "sampled half-way between them; none: no rescans. Kinds can be run one after the other",
    )  # fmt: skip
    parser.add_argument(
        "--rescan-pairs", type=Path, metavar="FILE",
        help="TSV with participant_id, session_1, session_2: which two sessions are a rescan (default: the first two, "
        "by date or label, unless more than 30 days apart)",
    )  # fmt: skip
    parser.add_argument(
        "--keep-rescans", action="store_true",
        help="keep the resampled sessions, which are undefaced, in the private folder OUT_DIR-private",
    )  # fmt: skip
    shared.add_header(parser)


def _add_execution(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, metavar="N", help="scans at once (default: what cores and memory allow)")
    parser.add_argument("--memory", type=float, metavar="GB", help="of a worker, which is ended where it needs more")
    parser.add_argument(
        "--cluster",
        metavar="C",
        help="tcp://HOST:PORT of a dask scheduler, or slurm, pbs, sge, lsf",
    )
    parser.add_argument(
        "--dashboard", action="store_true",
        help="serve dask's dashboard (off by default): without a password, it shows every user of this machine names "
        "and paths of scans, messages, and call stacks of the workers",
    )  # fmt: skip
    parser.add_argument("--cluster-config", type=Path, metavar="F", help="YAML: what to ask the batch system for")
    parser.add_argument(
        "--step-limit", type=float, default=7200.0, metavar="S", help="seconds a step may take (default: 7200)"
    )


def run(options: argparse.Namespace) -> int:
    """Run the participant or the group level."""
    from efface.bids.filters import load_filter
    from efface.study import Settings, Study
    from efface.study.backends import backend_of

    if options.level == "group":
        return run_group(
            options.out_dir,
            include_originals=options.include_originals,
            privacy=not options.no_privacy,
            jobs=options.jobs,
        )
    segmenters = shared.names(options.segmenter or "") or (UNNAMED_SEGMENTER,)
    methods = shared.chosen_methods(options.methods)
    method_params, segmenter_params = shared.chosen_params(options.param, methods, segmenters)
    settings = Settings(
        options.bids_dir,
        options.out_dir,
        methods,
        segmenters[0],
        protect_brain=options.protect_brain,
        originals=shared.names(options.original),
        also=segmenters[1:],
        method_params=method_params,
        segmenter_params=shared.with_slant_weights(segmenter_params, options.slant_weights, segmenters),
        measures=shared.names(options.measures),
        rescan=options.rescan,
        rescan_pairs=options.rescan_pairs,
        header=options.header,
        sidecar_keep=tuple(options.sidecar_keep),
        keep_rescans=options.keep_rescans,
        step_limit_s=options.step_limit,
    )
    bids_filter = load_filter(options.bids_filter) if options.bids_filter else None
    study = Study(settings, validate=not options.skip_bids_validation, bids_filter=bids_filter)
    cluster = backend_of(
        options.cluster,
        options.jobs,
        memory_gb=options.memory,
        config=options.cluster_config,
        dashboard=options.dashboard,
    )
    return run_participants(study, cluster, options.participant_label, options.session_label)


def run_participants(study: Any, cluster: Any, subjects: Sequence[str] = (), sessions: Sequence[str] = ()) -> int:
    """Run the participant level with a progress bar, and print what failed."""
    from efface.cli.progress import show_progress

    with show_progress() as progress:
        summary = study.run(subjects=subjects, sessions=sessions, cluster=cluster, progress=progress)
    out_dir = study.settings.out_dir
    rescans = f", {summary.rescans} rescans, {summary.rescans_computed} computed" if summary.rescans else ""
    print(f"{out_dir}: {summary.scans} scans, {summary.computed} computed{rescans}, {len(summary.failures)} failures")
    for row in summary.failures:
        print(one_line(f"failed: {row.scan} {row.method} ({row.measure}): {row.reason}"), file=sys.stderr)
    return shared.SOME_FAILED if summary.failures else shared.DONE


def run_group(out_dir: Path, *, include_originals: bool, privacy: bool = True, jobs: int | None = None) -> int:
    """Make tables, figures and report; in a study of enough people, attack the defaced scans too."""
    from efface.cli.progress import show_progress
    from efface.report import build_report
    from efface.study import collect, default_jobs, out_dir_of
    from efface.study.privacy_tables import FROM_PEOPLE, refresh_privacy

    tables = collect(out_dir_of(out_dir))
    with show_progress() as progress:
        why = refresh_privacy(out_dir, tables, measure=privacy, jobs=jobs or default_jobs(), progress=progress)
    if privacy and tables.edits.subject.nunique() >= FROM_PEOPLE:
        print(f"re-identification: {why or 'privacy_summary.tsv'}")
    print(f"{out_dir}: {tables.dice.scan.nunique()} scans in dice.tsv, {len(tables.failures)} failures")
    print(f"report: {build_report(out_dir, include_originals=include_originals).resolve()}")
    return shared.DONE
