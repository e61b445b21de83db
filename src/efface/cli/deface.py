"""``efface deface``: remove the face from one scan."""

import argparse
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from efface.cli import options as shared
from efface.parameters import pairs_to_mapping

HELP = "remove the face from one scan"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("scan", metavar="IN", help="NIfTI or MGH file of one head, or the folder of its DICOM files")
    parser.add_argument("out", metavar="OUT", type=Path, help="where the defaced scan goes")
    parser.add_argument("--series", type=int, metavar="N", help="of a DICOM folder with several series, the one to take")
    parser.add_argument("--method", default="pydeface", metavar="NAME", help="see `efface methods` (default: pydeface)")
    parser.add_argument(
        "--implementation",
        default="native",
        metavar="I",
        help="native (default), or original: the published program on PATH",
    )
    parser.add_argument("--program", metavar="PATH", help="where the published program is, instead of PATH")
    shared.add_param(parser, "method")
    shared.add_brain_mask(parser, "scan's")
    parser.add_argument(
        "--no-protect-brain", action="store_true", help="let the method cut into the brain, as published"
    )
    parser.add_argument(
        "--apply-to", nargs=2, action="append", default=[], metavar=("IMG", "OUT"),
        help="deface another image of the same person alike; registered if it is on another grid; may be repeated",
    )  # fmt: skip
    parser.add_argument("--mask-out", type=Path, metavar="M", help="write which voxels changed (1 = changed)")
    shared.add_header(parser)
    shared.add_force(parser)


def run(options: argparse.Namespace) -> int:
    """Convert DICOM folders where given, deface, and write all outputs."""
    from efface.io.dicom import as_image

    outputs = [options.out, *(Path(out) for _, out in options.apply_to)]
    given = [options.scan, *(image for image, _ in options.apply_to)]
    params = pairs_to_mapping(options.param)
    shared.check_paths([*given, options.brain_mask, options.program], [*outputs, options.mask_out])
    anonymous = options.header != "keep"
    with contextlib.ExitStack() as stack:
        images = [
            str(stack.enter_context(as_image(image, None if i else options.series, anonymous=anonymous)))
            for i, image in enumerate(given)
        ]
        for folder in (one for one, image in zip(given, images, strict=True) if one != image and Path(one).is_dir()):
            print(f"{folder}: converted by dcm2niix; the headers of the DICOM files themselves are out of scope")
        return _deface(options, params, images, outputs)


def _deface(options: argparse.Namespace, params: dict[str, Any], images: Sequence[str], outputs: Sequence[Path]) -> int:
    from efface._api import deface_with
    from efface.io.atomic import check_output

    sidecars, odd = _sidecars(images, outputs, options.header)
    for path in filter(None, [*outputs, options.mask_out, *(made.path for made in sidecars)]):
        check_output(path, force=options.force)
    start = time.perf_counter()
    result = deface_with(
        images[0],
        options.method,
        {**params, **({"program": options.program} if options.program else {})},
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
    shared.warn((*result.warnings, *odd))
    _print_summary(options, result, time.perf_counter() - start)
    _print_removed(result.removed, [key for made in sidecars for key in made.removed], options.header)
    return shared.DONE


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


def _print_summary(options: argparse.Namespace, result: Any, seconds: float) -> None:
    changed = int(result.edit.mask.sum())
    voxel_ml = float(result.original.spacing_mm.prod()) / 1000
    saved = result.edit.protected_voxels
    protection = "brain not protected" if options.no_protect_brain else f"{saved} voxels of brain were protected"
    print(
        f"{options.out}: {options.method} changed {changed} voxels ({changed * voxel_ml:.0f} ml); {protection}; "
        f"{seconds:.0f} s"
    )


def _print_removed(fields: Sequence[str], keys: Sequence[str], policy: str) -> None:
    """Print one line about what may have named a person."""
    if policy == "keep":
        print("header: kept with all its text (--header keep)")
        return
    parts = [f"removed {', '.join(fields)}"] if fields else ["no text to remove"]
    parts += [f"sidecar: removed {', '.join(dict.fromkeys(keys))}"] if keys else []
    print(f"header: {'; '.join(parts)}")
