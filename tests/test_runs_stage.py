"""What a notebook sees of its run: parameters found and checked, a record written last, a key that changes in time."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from gmiqa.runs import keys, open_stage, order, provenance
from gmiqa.runs.parameter_cell import given
from gmiqa.runs.progress import Progress, duration, progress
from gmiqa.runs.stage import Stage
from gmiqa.settings import load
from gmiqa_core.errors import UserError

NAME = "10_data_and_distortions"
CELL = 'run: str = "outputs/quick"  # folder of this run\nseed: int = 0  # seed'
OPEN = f'stage = open_stage("{NAME}", globals())'


def notebook(*cells: str, **values) -> dict:
    """The globals of a notebook in which these cells were run: IPython keeps their text in ``In``."""
    return {"In": ["", *cells, OPEN], **values}


@pytest.fixture
def stage(tmp_path) -> Stage:
    return open_stage(NAME, notebook(CELL, "# Parameters\nseed = 3", run=str(tmp_path), seed=3))


def test_parameters_come_from_the_parameters_cell_and_papermills_cell(stage, capsys):
    assert stage.p.seed == stage.seed == 3
    assert stage.p.source["seed"] == "papermill" and stage.p.source["data"] == "default"


def test_values_are_converted_by_the_table(tmp_path):
    stage = open_stage(NAME, notebook(CELL, "# Parameters\nseed = '3'\nscore_rises = 'false'", run=str(tmp_path),
                                      seed="3", score_rises="false"))
    assert stage.seed == 3 and stage.p.score_rises is False


def test_a_mistyped_name_is_refused_with_the_one_that_was_meant(tmp_path):
    for cells in ([CELL, "# Parameters\nsead = 3"], [CELL, "sead = 3"], ["sead: int = 3"]):
        with pytest.raises(UserError, match="did you mean 'seed'"):
            open_stage(NAME, notebook(*cells, run=str(tmp_path), sead=3))
    assert not list(tmp_path.iterdir())


def test_another_stages_parameter_is_left_aside_so_that_one_file_serves_all(tmp_path, capsys):
    open_stage(NAME, notebook(CELL, "# Parameters\nmeta_steps = 3", run=str(tmp_path), meta_steps=3))
    assert "left aside, as other notebooks' parameters: meta_steps" in capsys.readouterr().out


def test_only_cells_since_the_parameters_cell_that_assign_literals_are_parameters():
    found = given(notebook("sead = 1", CELL, "import os\nsaed = 1", "total = len([1])", "x = 2", run="r", seed=0,
                           sead=1, saed=1, total=1, x=2))
    assert found == {"notebook": ["x", "run", "seed"], "papermill": []}


def test_close_writes_the_record_with_sizes_and_digests_and_clears_nothing_of_others(stage):
    stage.table(pd.DataFrame({"a": [1.5]}), "t", "A table")
    stage.number("n", 0.5, n=3)
    stage.claim("It holds", "ours", value=1, outcome="holds", n=3, evidence="t")
    assert provenance.record(stage.folder) is None
    stage.close()
    record = provenance.record(stage.folder)
    assert record["products"][0] == {"path": "t.csv", "size": 6, "sha256": provenance.sha256(stage.folder / "t.csv")}
    assert record["parameters"]["seed"] == {"value": 3, "source": "papermill"} and record["versions"]["torch"]
    assert {"commit", "dirty", "device", "seconds", "peak_memory", "started", "finished"} <= set(record)


def test_a_rerun_begins_by_taking_the_record_away(stage, tmp_path):
    stage.close()
    open_stage(NAME, notebook(CELL, "# Parameters\nseed = 3", run=str(tmp_path), seed=3))
    assert provenance.record(stage.folder) is None


def test_opening_a_finished_stage_by_hand_keeps_its_checkpoints_until_something_differs(stage, tmp_path):
    (stage.folder / "checkpoint.pt").write_bytes(b"trained")
    stage.close()
    open_stage(NAME, notebook(CELL, "# Parameters\nseed = 3", run=str(tmp_path), seed=3))
    assert (stage.folder / "checkpoint.pt").exists()
    open_stage(NAME, notebook(CELL, "# Parameters\nseed = 4", run=str(tmp_path), seed=4))
    assert not (stage.folder / "checkpoint.pt").exists()


def test_a_cell_run_twice_registers_its_figure_once(stage):
    for text in ("first", "second"):
        stage.number("x", 1.0, text=text)
    assert [entry["text"] for entry in stage.registered["numbers"]] == ["second"]


def test_upstream_says_what_to_run(tmp_path):
    stage = open_stage("30_distortion_graphs", notebook(CELL, run=str(tmp_path), seed=0))
    with pytest.raises(UserError, match="needs 20_meta_pretraining, which is not finished.*gmiqa run"):
        stage.upstream("20_meta_pretraining")
    with pytest.raises(UserError, match="did you mean '20_meta_pretraining'"):
        stage.upstream("20_meta_pretrainin")
    provenance.write_json(tmp_path / "20_meta_pretraining" / "run.json", {"status": "done"})
    assert stage.upstream("20_meta_pretraining") == tmp_path / "20_meta_pretraining"


@pytest.mark.parametrize("call", [lambda s: s.claim("x", "ours", outcome="maybe"), lambda s: s.product("not there"),
                                  lambda s: s.claim("x", "us"), lambda s: s.number("a/b", 1)])
def test_mistakes_of_a_notebook_are_named(stage, call):
    with pytest.raises(UserError):
        call(stage)


def test_the_same_seed_gives_the_same_numbers(tmp_path):
    import random

    import numpy
    import torch
    def draw() -> list[float]:
        open_stage(NAME, notebook(CELL, run=str(tmp_path), seed=7))
        return [random.random(), numpy.random.rand(), torch.rand(1).item()]
    assert draw() == draw()


# --- keys


def parts(path, text: str, **overrides) -> dict:
    cells = [{"cell_type": "markdown", "source": "words"},
             {"cell_type": "code", "source": "seed: int = 0", "metadata": {"tags": ["parameters"]}},
             {"cell_type": "code", "source": text, "metadata": {}}]
    (path / "n.ipynb").write_text(json.dumps({"cells": cells}))
    return keys.key_parts(path / "n.ipynb", load(overrides=overrides, stage=NAME))


def test_a_key_reaches_late_imports_and_names_what_changed(tmp_path):
    late = parts(tmp_path, "def f():\n    from gmiqa.evaluate import srocc")
    assert "gmiqa.evaluate.agreement" in late["modules"]
    assert not [m for m in late["modules"] if m.startswith("gmiqa.settings")]
    other = parts(tmp_path, "def f():\n    from gmiqa.evaluate import srocc", seed=1)
    assert keys.key(other) != keys.key(late) and keys.differences(late, other) == ["seed: 0 → 1"]
    changed = {**late, "modules": {**late["modules"], "gmiqa.evaluate.agreement": "0"}}
    assert keys.differences(changed, late) == ["modules changed: evaluation.agreement"]


def test_comments_and_the_folder_of_the_run_do_not_change_a_key(tmp_path):
    first = parts(tmp_path, "x = 1", run="outputs/a")
    assert keys.key(first) == keys.key(parts(tmp_path, "x = 1  # a comment\n", run="outputs/b"))
    assert keys.key(first) != keys.key(parts(tmp_path, "x = 2"))


def test_the_files_of_a_data_folder_are_part_of_the_key(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"1")
    first = parts(tmp_path, "x = 1", data=str(tmp_path / "pictures"))
    assert list(first["data"]) == ["data"]
    (tmp_path / "pictures" / "b.png").write_bytes(b"2")
    second = parts(tmp_path, "x = 1", data=str(tmp_path / "pictures"))
    assert keys.differences(first, second) == ["the files of data changed"]


def test_lines_for_ipython_do_not_stop_the_key(tmp_path):
    assert parts(tmp_path, "%matplotlib inline\nfrom gmiqa_core import images")["modules"]["gmiqa.data.images"]


def test_the_order_is_complete_and_equals_what_the_notebooks_ask_for():
    import re
    folder = provenance.repository_root() / "notebooks"
    for name, needs in order.NEEDS.items():
        if (folder / f"{name}.ipynb").exists():
            asked = set(re.findall(r'upstream\(\\?"(\w+)\\?"\)', (folder / f"{name}.ipynb").read_text()))
            assert asked <= set(needs) | set().union(*map(order.above, needs)), f"{name}: {asked} against {needs}"


def test_stage_names_may_be_short():
    assert order.stage_name("30") == order.stage_name("notebooks/30_distortion_graphs.ipynb") == "30_distortion_graphs"
    with pytest.raises(UserError, match="the stages are"):
        order.stage_name("35")


# --- progress


def test_progress_in_batch_prints_few_lines_and_a_last_one(capsys):
    for _ in progress(range(1000), label="steps"):
        pass
    text = capsys.readouterr().out
    assert text.count("\n") == 1 and "steps 1000/1000 (100 %), took" in text


def test_progress_says_what_is_left(monkeypatch):
    bar = Progress("steps", 4, jupyter=False)
    bar._start -= 30
    bar.count = 1
    bar._values = {"loss": 0.12345}
    assert bar.text() == "steps 1/4 (25 %), 30 s so far, 1 min 30 s left, loss 0.1235"


@pytest.mark.parametrize("seconds, text", [(4.4, "4 s"), (75, "1 min 15 s"), (7500, "2 h 05 min")])
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text
