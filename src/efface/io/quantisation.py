"""How much two files may differ only because each stores whole numbers times a scale factor."""

from efface.io.scan import Scan

RELATIVE = 1e-5
"""Of the largest intensity: rounding of 32-bit floating point in a program that scales and scales back."""


def rounding(scan: Scan, stored_again: Scan, slope: float = 1.0) -> float:
    """Largest difference, in intensities, that storing a scan again explains; a real change is greater.

    Half of a step of the scan and a whole step of the other file, where they store whole numbers: some programs cut
    decimals off instead of rounding.

    Parameters
    ----------
    scan
        The scan.
    stored_again
        The same scan from another file.
    slope
        What the second one's intensities are multiplied by to be those of the first.

    Returns
    -------
    float
        0 for two files of whole numbers with the same dtype and scaling.
    """
    storage, again = ((one.stored.dtype.str[1:], one.slope, one.inter) for one in (scan, stored_again))
    if storage == again and step(scan) > 0:
        return 0.0
    largest = max(abs(float(scan.data.max())), abs(float(scan.data.min())))
    return max(RELATIVE * largest, step(scan) / 2 + abs(slope) * step(stored_again))


def step(scan: Scan) -> float:
    """Difference of the intensities of neighbouring stored numbers; 0 for floating point."""
    return abs(scan.slope) if scan.stored.dtype.kind in "iu" else 0.0
