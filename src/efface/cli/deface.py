"""``efface deface``: remove the face from one scan."""

import argparse
import contextlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.bids.names import deface_mask_name
from efface.cli import options as shared
from efface.cli.memory import keep_freed_memory
from efface.errors import InputError, OutputError
from efface.parameters import pairs_to_mapping
from efface.wording import counted

if TYPE_CHECKING:
    from efface.io.dicom import SourceImage

HELP = "remove the face from one scan"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("scan", metavar="IN", help="NIfTI or MGH file of one head, or the folder of its DICOM files")
    parser.add_argument("out", metavar="OUT", type=Path, help="where the defaced scan goes")
    parser.add_argument("--series", type=int, metavar="N", help="of a DICOM folder with several series, the one to take")
    parser.add_argument(
        "--allow-gaps",
        action="store_true",
        help="take a DICOM series with lost slices all the same, with a warning",
    )
    parser.add_argument("--method", default="pydeface", metavar="NAME", help="see `efface methods` (default: pydeface)")
    parser.add_argument(
        "--implementation",
        default="native",
        metavar="I",
        help="native (default), or original: the published program, if it is installed",
    )
    parser.add_argument("--program", metavar="PATH", help="where the published program is, instead of PATH")
    shared.add_param(parser, "method")
    shared.add_brain_mask(parser, "scan's")
    parser.add_argument(
        "--no-protect-brain", action="store_true", help="let the method cut into the brain, as published"
    )
    parser.add_argument(
        "--apply-to", nargs=2, action="append", default=[], metavar=("IMG", "OUT"),
        help="deface another image of the same person alike; it is always registered; may be repeated; "
        "where one fails, the others are written, and the exit code is 1",
    )  # fmt: skip
    parser.add_argument(
        "--mask-out", type=Path, metavar="M",
        help="write the edited region (1 = edited); in a folder, under the name that BIDS gives the mask of OUT",
    )  # fmt: skip
    shared.add_header(parser)
    shared.add_force(parser)


def run(options: argparse.Namespace) -> int:
    """Convert DICOM folders where given, deface, and write all outputs."""
    keep_freed_memory()
    from efface.io.dicom import as_image

    outputs = [options.out, *(Path(out) for _, out in options.apply_to)]
    given = [options.scan, *(image for image, _ in options.apply_to)]
    params = pairs_to_mapping(options.param)
    if options.mask_out and options.mask_out.is_dir():
        options.mask_out /= deface_mask_name(options.out.name)
    shared.check_paths([*given, options.brain_mask, options.program], [*outputs, options.mask_out])
    _check_they_exist(image for image, _ in options.apply_to)
    anonymous = options.header != "keep"
    with contextlib.ExitStack() as stack:
        sources = [
            stack.enter_context(
                as_image(image, None if i else options.series, anonymous=anonymous, allow_gaps=options.allow_gaps)
            )
            for i, image in enumerate(given)
        ]
        for folder in filter(os.path.isdir, given):
            print(f"{folder}: converted by dcm2niix; the headers of the DICOM files themselves are out of scope")
        return _deface(options, params, sources, outputs)


def _check_they_exist(images: Iterable[str]) -> None:
    """Refuse a mistyped path before any work; an image that turns out to be unfit does not cost the scan its output."""
    for image in images:
        if not Path(image).exists():
            msg = f"{image} does not exist; expected an image for --apply-to: check the path"
            raise InputError(msg)


def _deface(
    options: argparse.Namespace, params: dict[str, Any], sources: Sequence["SourceImage"], outputs: Sequence[Path]
) -> int:
    from efface._api import deface_with
    from efface._threads import alongside
    from efface.anatomy.brain_extraction import load_networks
    from efface.io.atomic import check_output
    from efface.io.encoding import suffix_of
    from efface.io.sidecar import sidecar_of
    from efface.quality.face_parts import average_relief

    images = [str(source.path) for source in sources]
    converted = [warning for source in sources for warning in source.warnings]
    names = {str(source.path): source.name for source in sources}
    sidecars, odd = _sidecars(options, images, outputs)
    for path in filter(None, [*outputs, options.mask_out]):
        suffix_of(path)
    for path in filter(None, [*outputs, options.mask_out, *(made.path for made in sidecars)]):
        check_output(path, force=options.force)
    start = time.perf_counter()
    alongside(load_networks)  # what takes seconds is loaded while the scan is read
    alongside(average_relief)  # `_left_faces` compares with it
    result = deface_with(
        images[0],
        options.method,
        {**params, **({"program": options.program} if options.program else {})},
        implementation=options.implementation,
        brain_mask=options.brain_mask,
        protect_brain=not options.no_protect_brain,
        apply_to=images[1:],
        header=options.header,
        skip_failed=True,
    )
    lost = {place + 1: why for place, why in result.failed.items()}
    written = [path for place, path in enumerate(outputs) if place not in lost]
    not_needed = {sidecar_of(outputs[place]) for place in lost}
    sidecars = [made for made in sidecars if made.path not in not_needed]
    left = alongside(_left_faces, result, written)
    for scan, path in zip([result.scan, *result.others], written, strict=True):
        scan.save(path, force=options.force)
    if options.mask_out:
        result.original.save_like(result.edit.mask, options.mask_out, force=options.force)
    for made in sidecars:
        made = made.with_method(options.method, options.implementation, leaves_face=result.edit.leaves_face)
        made.write(force=options.force)
    shared.warn((*converted, *(_renamed(warning, names) for warning in result.warnings), *odd, *left.result()))
    _print_summary(options, result, time.perf_counter() - start)
    _print_removed(result.removed, [key for made in sidecars for key in made.removed], options.header)
    for place, why in lost.items():
        shared.complain(f"{outputs[place]} was not written: {why}")
    return shared.SOME_FAILED if lost else shared.DONE


def _left_faces(result: Any, written: Sequence[Path]) -> list[str]:
    """Warnings about defaced images that show a face still, or that cannot be judged (as ``efface audit`` does)."""
    from efface.anatomy.head_anatomy import HeadAnatomy
    from efface.quality.left_face import find_left_face

    warnings = []
    for scan, path in zip([result.scan, *result.others], written, strict=True):
        known = result.registration if scan is result.scan else None
        found = find_left_face(HeadAnatomy(scan, registration=known))
        if not found.is_clean:
            warnings.append(f"{path}: {found.answer} ({found.reason}): look at it before it is shared")
    return warnings


def _renamed(warning: str, names: Mapping[str, str]) -> str:
    """A warning that names the user's folder instead of the temporary file made of it."""
    for path, name in names.items():
        warning = warning.replace(path, name)
    return warning


def _sidecars(
    options: argparse.Namespace, images: Sequence[str], outputs: Sequence[Path]
) -> tuple[list[Any], list[str]]:
    """The sidecars of the defaced images, and warnings about those that are not written.

    Raises
    ------
    OutputError
        If two defaced images would have one sidecar.
    """
    from efface.io.sidecar import Sidecar, sidecar_of

    pairs = zip(images, outputs, strict=True)
    made = [Sidecar.of(Path(image), out, options.header, options.sidecar_keep) for image, out in pairs]
    odd = [warning for one in made for warning in one.warnings]
    inputs = {sidecar_of(Path(image)).resolve() for image in images}
    written = [one for one in made if one.path.resolve() not in inputs]
    odd += [
        f"{one.path} is the sidecar of both images and was left as it is: choose another name for the defaced image"
        for one in made
        if one not in written
    ]
    twice = [one.path for i, one in enumerate(written) if one.path in [other.path for other in written[:i]]]
    if twice:
        msg = f"two defaced images would have the sidecar {twice[0]}: choose another name for one of them"
        raise OutputError(msg)
    lacking = set(options.sidecar_keep) - {key for one in made for key in one.content}
    odd += [f"no sidecar has the key {key} (--sidecar-keep): check its spelling" for key in sorted(lacking)]
    return written, odd


def _print_summary(options: argparse.Namespace, result: Any, seconds: float) -> None:
    edited = int(result.edit.mask.sum())
    voxel_ml = float(result.original.spacing_mm.prod()) / 1000
    saved = result.edit.protected_voxels
    protection = "brain not protected" if options.no_protect_brain else f"{counted(saved, 'voxel')} of brain protected"
    print(
        f"{options.out}: {options.method} edited {counted(edited, 'voxel')} ({edited * voxel_ml:.0f} ml); "
        f"{protection}; {seconds:.0f} s"
    )


def _print_removed(fields: Sequence[str], keys: Sequence[str], policy: str) -> None:
    """Print one line about what may have named a person."""
    if policy == "keep":
        print("header: kept with all its text (--header keep)")
        return
    parts = [f"removed {', '.join(fields)}"] if fields else ["no text to remove"]
    parts += [f"sidecar: removed {', '.join(dict.fromkeys(keys))}"] if keys else []
    print(f"header: {'; '.join(parts)}")
