"""Notebooks: clean as stored, listed by papermill's help, and every one runs on the tiny preset."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gmiqa.settings import STAGES, load, stage_parameters

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
PRESENT = [stage for stage in STAGES if (NOTEBOOKS / f"{stage}.ipynb").exists()]
CODE_LINES = 150


def read(stage):
    return json.loads((NOTEBOOKS / f"{stage}.ipynb").read_text(encoding="utf-8"))


def source(cell):
    return "".join(cell["source"])


def test_the_folder_holds_the_ten_stages_and_nothing_else():
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == list(STAGES)


@pytest.mark.parametrize("stage", PRESENT)
def test_it_is_stored_clean(stage):
    content = read(stage)
    assert content["nbformat"] == 4 and content["nbformat_minor"] >= 5
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    identifiers = [cell["id"] for cell in content["cells"]]
    assert len(set(identifiers)) == len(identifiers)
    for cell in content["cells"]:
        assert source(cell).strip(), "an empty cell"
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    everything = "\n".join(map(source, content["cells"]))
    assert not re.search(r"(?<![\w.:/])/(home|root|tmp|work|Users|mnt|data)/", everything), "an absolute path"
    assert "sys.path" not in everything and not re.search(r"^\s*[!%]\s*(pip|conda)", everything, re.M)


@pytest.mark.parametrize("stage", PRESENT)
def test_its_cells_stand_in_the_agreed_order(stage):
    cells = read(stage)["cells"]
    title = source(cells[0])
    assert cells[0]["cell_type"] == "markdown" and title.startswith("# ")
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert "parameters" in code[0]["metadata"].get("tags", []), "the parameters cell is the first code cell"
    assert f'open_stage("{stage}", globals())' in source(code[1]), "the second code cell opens the run"
    assert "stage.close()" in source(code[-1]), "the last code cell closes the run"
    lines = [line for cell in code for line in source(cell).splitlines() if line.strip() and line.strip()[0] != "#"]
    assert len(lines) <= CODE_LINES + len(stage_parameters(stage)), "what is long belongs in a package"


@pytest.mark.parametrize("stage", PRESENT)
def test_papermills_help_lists_every_parameter_with_its_help(stage):
    from papermill.inspection import inspect_notebook

    listed = inspect_notebook(str(NOTEBOOKS / f"{stage}.ipynb"))
    wanted = stage_parameters(stage)
    assert list(listed) == list(wanted)
    for name, parameter in wanted.items():
        assert listed[name]["inferred_type_name"] == parameter.type.__name__
        assert listed[name]["help"].startswith(parameter.help)


def test_the_help_command_itself_prints_them():
    stage = PRESENT[0]
    command = [sys.executable, "-m", "papermill", "--help-notebook", str(NOTEBOOKS / f"{stage}.ipynb")]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    for parameter in stage_parameters(stage).values():
        assert f"{parameter.name}: {parameter.type.__name__}" in printed and parameter.help in printed


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    return tmp_path_factory.mktemp("outputs") / "tiny"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", PRESENT)
def test_it_runs_on_the_tiny_preset(stage, tiny_run):
    """Plain papermill, in the order of the chain: each notebook finds what the ones before it left."""
    import papermill

    given = dict(load(ROOT / "params/tiny.yaml", overrides={"run": str(tiny_run), "device": "cpu"}, stage=stage))
    written = tiny_run / f"{stage}.ipynb"
    tiny_run.mkdir(exist_ok=True)
    papermill.execute_notebook(
        str(NOTEBOOKS / f"{stage}.ipynb"), str(written), parameters=given, cwd=str(ROOT), progress_bar=False,
        kernel_name="python3", execution_timeout=600,
    )
    record = json.loads((tiny_run / stage / "run.json").read_text())
    assert record["status"] == "done"
    assert (tiny_run / stage).is_dir() and not list(tiny_run.glob("*.failed.ipynb"))
