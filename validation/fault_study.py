"""`efface` with stand-ins for what is slow: phantoms' brains and poses as known, a segmentation by intensity.

That segmentation takes its time. Workers import this file too (as the main module, or by ``dask worker --preload``), so
they have the same stand-ins.

``EFFACE_FAULT=hungry|hangs`` makes the segmentation of the second scan take all memory, or never end.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))

import bids_dataset
from efface.study import segmentations

SECONDS = 0.7
_patch = pytest.MonkeyPatch()
bids_dataset.stand_in(_patch)
_quick = segmentations.segment


def _slow(anatomy: Any, name: str = "atlas", params: Any = None) -> Any:
    fault = os.environ.get("EFFACE_FAULT", "") if "sub-02" in str(anatomy.scan.path) else ""
    held = []
    while fault:
        if fault == "hungry":
            held.append(bytearray(b"x" * (64 * 2**20)))
        time.sleep(0.02)
    time.sleep(SECONDS)
    return _quick(anatomy, name, params)


_patch.setattr(segmentations, "segment", _slow)

if __name__ == "__main__":
    from efface.cli import main

    sys.exit(main(sys.argv[1:]))
