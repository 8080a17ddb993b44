"""The notebook runs from end to end, and is the twin of its script."""

import pathlib

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

COLAB = pathlib.Path(__file__).parents[1] / "colab"


def test_the_notebook_is_the_twin_of_its_script():
    script, notebook = (jupytext.read(COLAB / f"first_tour.{end}") for end in ("py", "ipynb"))
    cells = lambda nb: [(cell.cell_type, cell.source) for cell in nb.cells]
    assert cells(notebook) == cells(script)


@pytest.mark.filterwarnings("default")  # of the kernel's machinery, not of ours
def test_the_notebook_runs():
    notebook = nbformat.read(COLAB / "first_tour.ipynb", as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = "steps, samples = 60, 10"
    NotebookClient(notebook, timeout=400, kernel_name="python3").execute(cwd=str(COLAB))
    pictures = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 6
