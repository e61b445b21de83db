"""Evidence of the automatic verdict as readable lines, with positions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efface.quality.verdict import VANISHED_MM

LARGEST = 1e12
"""No measure of a head is larger."""


@dataclass(frozen=True)
class Line:
    """One piece of evidence.

    Attributes
    ----------
    text
        A sentence.
    failed
        It speaks against the scan.
    at_mm
        Where, RAS+ mm of the scan, or None.
    """

    text: str
    failed: bool
    at_mm: tuple[float, float, float] | None = None


def evidence_lines(content: Mapping[str, Any]) -> list[Line]:
    """Turn the evidence of one defaced scan into lines; missing entries are left out."""
    return [*_brain(_object(content.get("brain"))), *_face(_object(content.get("face")))]


def _brain(brain: Mapping[str, Any]) -> list[Line]:
    damaged, edited = number_in(brain.get("damaged_ml")), number_in(brain.get("edited_ml"))
    if damaged is None:
        return []
    if not damaged:
        edge = f"; {edited:.2f} ml changed within the mask's uncertain edge" if edited else ""
        return [Line(f"brain: no damage{edge}", failed=False)]
    deepest, where = number_in(brain.get("deepest_mm")), brain.get("where")
    text = f"brain: {damaged:.2f} ml damaged"
    text += f", up to {deepest:.1f} mm deep" if deepest is not None else ""
    text += f", {where}" if where and isinstance(where, str) else ""
    return [Line(text, bool(brain.get("failed")), _point(brain.get("centre_mm")))]


def _face(face: Mapping[str, Any]) -> list[Line]:
    lines = []
    changed = number_in(face.get("changed"))
    if changed is not None:
        text = f"face: {changed:.0%} of its surface changed"
        by = face.get("by")
        text += f"; recognised by {by}" if by and isinstance(by, str) else ""
        lines.append(Line(text, bool(face.get("failed")) and not face.get("left")))
    for name, feature in _object(face.get("features")).items():
        share, moved = number_in(_object(feature).get("changed")), number_in(_object(feature).get("moved_mm"))
        if share is None:
            lines.append(Line(f"{name}: not in the original", failed=False))
            continue
        is_left = bool(_object(feature).get("left"))
        text = f"{name}: {'still there' if is_left else 'gone'}, {share:.0%} changed"
        if moved is not None:
            text += f", moved {moved:.1f} mm" if moved < VANISHED_MM else ", nothing near its place"
        counts = is_left and "ear" not in name.split()
        lines.append(Line(text, counts, _point(_object(feature).get("centre_mm"))))
    return lines


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def number_in(value: Any) -> float | None:
    """A finite number of a JSON file; None for anything else, NaN and numbers that no float holds included."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST <= value <= LARGEST:
        return None
    return float(value)


def _point(value: Any) -> tuple[float, float, float] | None:
    numbers = [number_in(v) for v in value] if isinstance(value, list) else []
    if len(numbers) != 3 or None in numbers:
        return None
    x, y, z = (float(v or 0) for v in numbers)
    return (x, y, z)
