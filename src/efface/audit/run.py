"""The audit of many images, one after the other or on several processes."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from efface._version import __version__
from efface.audit.files import FoundImage
from efface.audit.images import AuditRecord, audit_image
from efface.audit.names import traces_of
from efface.quality.left_face import FaceAnswer, LeftFace

LOST = "the process that looked at it died, probably out of memory: try a smaller --jobs"


def audit_images(images: Sequence[FoundImage], *, jobs: int = 1, pictures: Path | None = None) -> Iterator[AuditRecord]:
    """Audit images, in their order; an image whose process dies cannot be told.

    Parameters
    ----------
    images
        As `efface.audit.files.find_images` lists them.
    jobs
        Processes; with 1, everything happens in this one.
    pictures
        Folder for pictures of faces; None makes none.

    Raises
    ------
    OutputError
        If a picture cannot be written.
    """
    if jobs <= 1 or len(images) <= 1:
        for image in images:
            yield audit_image(image, pictures)
        return
    context = multiprocessing.get_context("spawn")
    waiting = list(images)
    while waiting:
        with ProcessPoolExecutor(min(jobs, len(waiting)), mp_context=context, initializer=_one_thread) as pool:
            tasks = [pool.submit(audit_image, image, pictures) for image in waiting]
            done = 0
            for image, task in zip(waiting, tasks, strict=True):
                record = _result(image, task)
                done += 1
                yield record
                if record.face.reason == LOST:  # the pool is gone with its process
                    break
        waiting = waiting[done:]


def _one_thread() -> None:
    """Let each process use one thread: there are as many processes as cores, or fewer."""
    import torch

    torch.set_num_threads(1)


def _result(image: FoundImage, task: "Future[AuditRecord]") -> AuditRecord:
    try:
        return task.result()
    except BrokenProcessPool:
        lost = LeftFace(FaceAnswer.CANNOT_TELL, float("nan"), (), LOST)
        return AuditRecord(image.name, lost, traces_of(None, image.path, image.name))


def report(records: Sequence[AuditRecord]) -> dict[str, Any]:
    """All records as one JSON object."""
    return {
        "efface": __version__,
        "clean": all(record.is_clean for record in records),
        "images": [record.to_json() for record in records],
    }
