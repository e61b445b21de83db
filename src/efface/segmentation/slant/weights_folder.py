"""Which files make up a folder of SLANT weights, and their digest. Needs no torch.

A folder holds the 27 published state dicts (`PUBLISHED_PATHS`), or our own tile networks (`CARD`, `LABEL_PRIOR`, one
``i_j_k.pt`` for each tile, and `POOLED` for tiles without their own), or our network for the whole brain (`CARD`,
`WHOLE_BRAIN`).
"""

import functools
import hashlib
from pathlib import Path

from efface.errors import InputError
from efface.segmentation.slant.params import SlantParams

EMBEDDED_WEIGHTS = Path(__file__).parents[2] / "data" / "slant"
"""Our tile networks, part of the package."""
EMBEDDED_WHOLE_BRAIN = Path(__file__).parents[2] / "data" / "slant1mm"
"""Our network for the whole brain, part of the package."""
CARD, LABEL_PRIOR, POOLED, WHOLE_BRAIN = "card.json", "label_prior.npz", "pooled.pt", "whole_brain.pt"
PUBLISHED_PATHS = ("{name}/finetune_out/models/model_epoch_0027.pth", "{name}.pth", "{name}.pt")
"""Where the state dict of a tile may be; the first is where the published container has it."""
_PATTERNS = (CARD, LABEL_PRIOR, *(path.format(name="*") for path in PUBLISHED_PATHS))

FileState = tuple[Path, int, int]
"""Path of a file, its size in bytes, and its modification time in ns."""


def folder_in_use(params: SlantParams) -> Path:
    """Folder of the weights that these parameters select."""
    embedded = EMBEDDED_WHOLE_BRAIN if params.networks == "whole" else EMBEDDED_WEIGHTS
    return Path(params.weights or params.compact or embedded)


def is_whole_brain(params: SlantParams) -> bool:
    """Whether these parameters select a network for the whole brain."""
    return not params.weights and (folder_in_use(params) / WHOLE_BRAIN).is_file()


def files_state(folder: Path) -> tuple[FileState, ...]:
    """Files of a weights folder with size and modification time, sorted by path.

    Raises
    ------
    InputError
        If there is no such folder.
    """
    if not folder.is_dir():
        msg = (
            f"SLANT weights {folder} do not exist: expected a folder with the 27 published state dicts "
            "(--slant-weights DIR), or one written by `efface train slant`"
        )
        raise InputError(msg)
    paths = {path for pattern in _PATTERNS for path in folder.glob(pattern) if path.is_file()}
    return tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(paths))


def weights_digest(folder: Path) -> str:
    """SHA-256 over names and contents of the card, the label prior and all networks of a folder.

    The digest is computed again only when a file has another size or modification time.

    Parameters
    ----------
    folder
        Of published or of our own weights.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    InputError
        If there is no such folder.
    """
    return _digest(folder, files_state(folder))


@functools.lru_cache(maxsize=16)
def _digest(folder: Path, files: tuple[FileState, ...]) -> str:
    total = hashlib.sha256()
    for path, _, _ in files:
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return total.hexdigest()
