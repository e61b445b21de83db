"""Numbers and lists as sentences want them."""

from collections.abc import Sequence


def listed(items: Sequence[str]) -> str:
    """Write a list as in a sentence: ``a, b and c``."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def counted(number: int, what: str) -> str:
    """Write ``1 scan``, ``2 scans``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
