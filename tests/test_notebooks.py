"""The notebooks: as they are committed, and run from top to bottom in a fresh kernel."""

import ast

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

from .commands import ROOT

NAMES = ("quickstart", "toy", "your_own_critic", "tpu")


def read(name):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def trees(notebook):
    return [ast.parse(TransformerManager().transform_cell(cell.source)) for cell in code_cells(notebook)]


def pictures(notebook):
    """How many pictures each cell shows."""
    return [sum("image/png" in output.get("data", {}) for output in cell.outputs) for cell in code_cells(notebook)]


def test_all_notebooks_are_tested():
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_valid_and_small_and_holds_the_outputs_of_one_whole_run(name):
    path = ROOT / "notebooks" / f"{name}.ipynb"
    notebook = read(name)
    nbformat.validate(notebook)
    assert path.stat().st_size < 400_000
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert all(not cell.metadata for cell in notebook.cells)  # no times of execution


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_uses_public_names_alone(name):
    for tree in trees(read(name)):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module, *(alias.name for alias in node.names)]
            elif isinstance(node, ast.Attribute):
                names = [node.attr]
            else:
                continue
            assert not [part for name in names for part in name.split(".") if part.startswith("_")], ast.unparse(node)


def test_a_notebook_begins_by_installing_what_is_missing():
    first = [code_cells(read(name))[0].source for name in NAMES]
    assert all('find_spec("wgan_jax")' in source and "%pip install" in source for source in first)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of Jupyter's own are not ours to mend
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_from_top_to_bottom(name, monkeypatch):
    """In a fresh kernel; a cell that raises an error ends the test with it."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = read(name)
    committed = pictures(notebook)
    path = {"metadata": {"path": str(ROOT / "notebooks")}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=path).execute()
    assert pictures(notebook) == committed
