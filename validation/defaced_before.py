"""Whether Defacer's network still finds nose or mouth in defaced scans: ``python validation/defaced_before.py OUT``.

OUT is the output of a study, or of ``qc_agreement.py edits``. A scan with neither is warned of as defaced before.
After Defacer and mri_reface there is something to be found: values in place of a face, or another face.
"""

import argparse
from collections import Counter
from pathlib import Path

from efface.anatomy.landmarks import find_landmarks
from efface.io.scan import load_scan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    found: dict[str, Counter[str]] = {}
    for path in sorted(parser.parse_args().out.rglob("*_desc-*_T1w.nii*")):
        method = path.name.split("_desc-")[1].split("_")[0]
        names = {feature.name for feature in find_landmarks(load_scan(path).volume)} & {"nose", "mouth"}
        found.setdefault(method, Counter()).update([*names, "scans", *([] if names else ["neither"])])
    print("method\tscans\tnose found\tmouth found\tneither")
    for method, count in found.items():
        print(method, *(count[name] for name in ("scans", "nose", "mouth", "neither")), sep="\t")


if __name__ == "__main__":
    main()
