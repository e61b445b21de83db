"""The file ``.bidsignore`` of a data set: what the BIDS validator does not look at is no part of it.

Its patterns are those of ``.gitignore``, relative to the root of the data set.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from efface.errors import InputError
from efface.io.absent_content import check_content

log = logging.getLogger(__name__)

NAME = ".bidsignore"


def load_bidsignore(bids_dir: Path) -> Callable[[str], bool] | None:
    """Read the patterns of a data set.

    Parameters
    ----------
    bids_dir
        Root of the data set.

    Returns
    -------
    callable or None
        Whether a path relative to the root is ignored; None where there are no patterns.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    from pathspec import GitIgnoreSpec

    path = bids_dir / NAME
    check_content(path)
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        msg = f"{path} cannot be read ({reason}): check it, or remove it"
        raise InputError(msg) from error
    usable = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            GitIgnoreSpec.from_lines([line])
        except ValueError:
            log.warning("%s, line %d is no pattern and is not used: %s", path, number, ascii(line[:80]))
        else:
            usable.append(line)
    patterns = GitIgnoreSpec.from_lines(usable)
    return patterns.match_file if len(patterns) else None
