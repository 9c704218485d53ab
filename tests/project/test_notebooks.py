"""Notebooks of `examples/`, run from their first cell to their last."""

import nbclient
import nbformat
import pytest
from places import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def outputs(notebook):
    """What the cells have shown, as text, without what warns of nothing."""
    return "".join(
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stdout"
    )


def executed(name, folder):
    """The notebook after a run in a folder; a cell that fails raises."""
    notebook = nbformat.read(ROOT / "examples" / f"{name}.ipynb", 4)
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs = []
    nbclient.NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    return notebook


def test_there_is_a_test_for_each():
    assert [path.stem for path in NOTEBOOKS] == [
        "first_training",
        "where_time_goes",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_as_they_were_run(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    assert counts == list(range(1, len(code) + 1))
    kinds = {o.output_type for cell in code for o in cell.outputs}
    assert kinds == {"stream"}
    assert path.stat().st_size < 20_000


@pytest.mark.multi_worker
def test_two_workers_of_a_cell_train_what_one_process_does(tmp_path):
    told = outputs(executed("first_training", tmp_path))
    assert "[worker 0] Epoch 3/3" in told
    assert "2 workers, accuracy 0.9" in told
    *_, last = told.strip().splitlines()
    assert last == "ValueError: no images on this worker"
    assert '    raise ValueError("no images on this worker")' in told


@pytest.mark.long
@pytest.mark.multi_worker
def test_accumulation_is_the_same_training_and_has_a_report(tmp_path):
    told = outputs(executed("where_time_goes", tmp_path))
    assert "48 and 48 updates" in told
    for part in ("start", "input_wait", "compute", "waiting", "communication"):
        assert f"\n{part} " in told
    assert (tmp_path / "runs" / "report" / "report.html").exists()
