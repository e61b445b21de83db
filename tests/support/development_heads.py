"""Where the development heads are; tests that need them are marked ``heads`` and skipped without them."""

from pathlib import Path

HEADS = Path(__file__).parents[3] / "shared" / "data" / "heads"
MORE_HEADS = HEADS.parent / "more_heads"
