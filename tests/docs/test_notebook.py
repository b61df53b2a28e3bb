"""examples/digits.ipynb: its cells run beside a small run, and the whole notebook runs in Jupyter's own client."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "digits.ipynb"
CELLS: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text())["cells"]


def test_the_cells_run_beside_a_small_run_of_digits(finished, tmp_path, monkeypatch):
    for entry in finished.folder.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    namespace: dict[str, Any] = {"__name__": "notebook", "Path": Path}
    for number, cell in enumerate(CELLS):
        if cell["cell_type"] == "code" and "pipeline" not in cell["metadata"].get("tags", []):
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), namespace)  # noqa: S102 - our own notebook


def test_the_notebook_is_small_and_its_outputs_have_no_error_and_no_path():
    assert NOTEBOOK.stat().st_size < 300_000
    outputs = [output for cell in CELLS for output in cell.get("outputs", [])]
    assert all(output["output_type"] != "error" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 5
    assert not any(str(place) in json.dumps(outputs) for place in (Path.home(), tempfile.gettempdir()))


@pytest.mark.slow
def test_the_whole_notebook_runs(tmp_path, monkeypatch):
    """Train the digits recipe and run every cell: ten minutes of a free core; needs requirements-notebook.lock."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # the notebook clones the repository there
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=7200, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    pictures = [output for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert sum("image/png" in output["data"] for output in pictures) >= 5
