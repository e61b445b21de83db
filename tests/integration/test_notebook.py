"""The example notebook runs as it stands, but for its data: phantoms, and stand-ins for the slow steps."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs/notebooks/study.ipynb"
DATA = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import pytest
import bids_dataset
bids_dataset.stand_in(pytest.MonkeyPatch())
pytest.MonkeyPatch().setattr(  # no processes of their own: they would not have the stand-ins
    "efface.study.run._outcomes", lambda engine, tasks: (task.run() for task in tasks)
)
pytest.MonkeyPatch().setattr("efface.report.head_figures.FACE_PX", (36, 32))
bids_dir = bids_dataset.make(Path("bids"), ("sub-01/ses-1", "sub-02/ses-1"))
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the kernel's own packages
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    data = [cell for cell in notebook.cells if "data" in cell.metadata.get("tags", ())]
    assert len(data) == 1
    data[0].source = DATA.format(tests=str(Path(__file__).parents[1] / "support"))
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert (tmp_path / "results/report.html").is_file()
    shown = "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", ()))
    assert "sub-02_ses-1" in shown
    assert "edited_brain_ml" in shown
    last = notebook.cells[-1].outputs[-1]["data"]["text/plain"]
    assert "thalamus" in last
    assert "quickshear" in last


def test_the_notebook_is_committed_without_output():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    ten_lines = notebook.cells[3].source
    assert len([line for line in ten_lines.splitlines() if line.strip()]) <= 10
