"""Write trained weights as a folder that efface reads: the network in half precision, and its model card.

    python training/slant1mm/export.py OUT/weights.pt FOLDER

`FOLDER` is then given as ``--param compact=FOLDER``. The card says what was held out, the settings, and the Dice of the
scans held out (`final.json` beside the weights).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from efface.segmentation.slant.whole_weights import save_whole_brain

SHOWN = ("fold", "seconds", "step", "patch", "batch", "rate", "heads", "seed")
"""Settings that the card repeats."""


def results(path: Path) -> dict[str, dict[str, float]]:
    """Mean Dice over the labels of each scan held out, plain and averaged with the mirror image."""
    content = json.loads(path.read_text())
    return {
        kind: {name: round(float(np.mean([v for v in values if v is not None])), 4) for name, values in scans.items()}
        for kind, scans in content.items()
    }


def main() -> None:
    """Export from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    stored = torch.load(options.weights, map_location="cpu", weights_only=True)
    training = {
        "data": "manual BrainCOLOR labels (stripped brains, 1 mm) and DLMUSE labels (heads, 2 mm); see the model card",
        "settings": {name: stored["settings"][name] for name in SHOWN},
        "held_out": list(stored["held"]),
        "dice_held_out": results(options.weights.with_name("final.json")),
    }
    options.folder.mkdir(parents=True, exist_ok=True)
    save_whole_brain(options.folder, stored["state"], training)


if __name__ == "__main__":
    main()
