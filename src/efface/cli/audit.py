"""``efface audit``: is a face, or a name, still in there? No original is needed."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from efface.cli import options as shared
from efface.errors import one_line

if TYPE_CHECKING:
    from efface.audit.images import AuditRecord

HELP = "look for faces and names that are left in images, defaced by any program (no original needed)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.epilog = (
        "Exit code 0: nothing was found. 1: a face or something that may name somebody was found, or an image could not "
        "be judged (`cannot tell`): what cannot be judged is not clean. 2: the audit could not run."
    )
    parser.add_argument("path", metavar="PATH", type=Path, help="an image (NIfTI, MGH), a folder, or a BIDS data set")
    parser.add_argument("--json", type=Path, metavar="F", help="write one record an image here")
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="write a picture of each head here; do not share them"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes at once (default: 1; 2 GB each)")
    shared.add_force(parser, "the JSON file if it exists")


def run(options: argparse.Namespace) -> int:
    """Audit, print a line an image, and say in the exit code whether all is clean."""
    from efface.audit.files import find_images
    from efface.audit.run import audit_images, report
    from efface.errors import InputError
    from efface.io.atomic import as_private_as, make_folder, write_atomically

    if options.jobs < 1:
        msg = f"--jobs must be at least 1; received {options.jobs}"
        raise InputError(msg)
    images = find_images(options.path)
    shared.check_paths([image.path for image in images], [options.json], force=options.force)
    if options.pictures is not None:
        make_folder(options.pictures)
    records = []
    for record in audit_images(images, jobs=options.jobs, pictures=options.pictures):
        records.append(record)
        _show(record)
    if options.json:
        with as_private_as([options.path]):
            write_atomically(options.json, (json.dumps(report(records), indent=2) + "\n").encode(), force=options.force)
    bad = sum(not record.is_clean for record in records)
    print(f"{len(records)} image{'s' * (len(records) != 1)}: {len(records) - bad} clean, {bad} to look at")
    return shared.SOME_FAILED if bad else shared.DONE


def _show(record: "AuditRecord") -> None:
    """Print what was found in one image."""
    print(f"{one_line(record.image)}: {record.face.answer} ({record.face.reason})", flush=True)
    for trace in record.traces:
        print(f"    may name somebody: {trace.where}: {trace.what}", flush=True)
    for warning in record.warnings:
        print(f"warning: {one_line(record.image)}: {one_line(warning)}", file=sys.stderr)
