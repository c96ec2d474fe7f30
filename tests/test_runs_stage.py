"""What a notebook sees of its run: parameters found and checked, a record written last, a key that changes in time."""

from __future__ import annotations

import json
import shutil
import sys

import pandas as pd
import pytest

from gmiqa.runs import keys, open_stage, order, provenance
from gmiqa.runs.parameter_cell import given
from gmiqa.runs.progress import Progress, duration, progress
from gmiqa.runs.stage import Stage
from gmiqa.settings import load, stage_parameters
from gmiqa_core.errors import UserError

NAME = "10_data_and_distortions"
CELL = 'run: str = "outputs/quick"  # folder of this run\nseed: int = 0  # seed'
OPEN = f'stage = open_stage("{NAME}", globals())'


def notebook(*cells: str, **values) -> dict:
    """The globals of a notebook in which these cells were run: IPython keeps their text in ``In``."""
    return {"In": ["", *cells, OPEN], **values}


def read_all(stage: Stage, but: tuple[str, ...] = ()) -> None:
    """What the cells of a whole notebook do."""
    for parameter in stage.p:
        if parameter not in but:
            _ = stage.p[parameter]


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
    read_all(stage)
    stage.close()
    record = provenance.record(stage.folder)
    assert record["products"][0] == {"path": "t.csv", "size": 6, "sha256": provenance.sha256(stage.folder / "t.csv")}
    assert record["parameters"]["seed"] == {"value": 3, "source": "papermill"} and record["versions"]["torch"]
    assert {"commit", "dirty", "device", "seconds", "peak_memory", "started", "finished"} <= set(record)


def test_a_rerun_begins_by_taking_the_record_away(stage, tmp_path):
    read_all(stage)
    stage.close()
    open_stage(NAME, notebook(CELL, "# Parameters\nseed = 3", run=str(tmp_path), seed=3))
    assert provenance.record(stage.folder) is None


def test_opening_a_finished_stage_by_hand_keeps_its_checkpoints_until_something_differs(stage, tmp_path, monkeypatch):
    (stage.folder / "checkpoint.pt").write_bytes(b"trained")
    read_all(stage)
    stage.close()
    every = keys.modules()
    unused = next(name for name in every if name not in keys.loaded())
    monkeypatch.setattr(keys, "modules", lambda: every | {unused: "edited"})
    for _ in range(2):  # finished, and then begun again
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


# --- parameters that are declared are read


def test_a_declared_parameter_that_no_cell_read_is_refused_by_name(stage):
    read_all(stage, but=("grid_side", "data"))
    stage.p.lines()
    assert "grid_side" in stage.p and stage.p.plain()["grid_side"] == 128
    with pytest.raises(UserError, match=f"{NAME} declares data, grid_side, but no cell has read this"):
        stage.close()
    assert provenance.record(stage.folder) is None
    assert stage.p.grid_side and stage.p["data"]
    stage.close()
    assert provenance.record(stage.folder)


def test_what_matters_under_a_condition_only_may_stay_unread_without_it(tmp_path):
    def unread(**values) -> set[str]:
        given = {"run": str(tmp_path), **values}
        stage = open_stage(NAME, notebook(CELL, f"# Parameters\n{'; '.join(f'{n} = 0' for n in values)}", **given))
        return set(stage.p.unread(stage_parameters(NAME)))

    folder = {n for n in stage_parameters(NAME) if n.startswith(("csv", "score_"))}
    assert folder and not unread() & {*folder, "dataset_path"} and "data" in unread()
    assert "dataset_path" in unread(dataset="livec") and not unread(dataset="livec") & {*folder, "data"}
    assert unread(dataset="folder") >= {*folder, "dataset_path"}


def test_a_function_that_is_given_all_parameters_counts_what_it_reads(stage):
    datasets = pytest.importorskip("gmiqa.data.datasets")
    before = set(stage.p.read)
    with pytest.raises(UserError):
        datasets.from_parameters(stage.p)
    assert stage.p.read - before == {"dataset", "dataset_path"}


def test_what_an_earlier_attempt_with_the_same_parameters_read_counts(tmp_path):
    read_all(open_stage(NAME, notebook(CELL, run=str(tmp_path), seed=0)), but=("grid_side",))
    again = open_stage(NAME, notebook(CELL, run=str(tmp_path), seed=0))
    assert again.p.unread(stage_parameters(NAME)) == ["grid_side"]
    other = open_stage(NAME, notebook(CELL, "seed = 1", run=str(tmp_path), seed=1))
    assert {"data", "grid_side", "grid_content"} <= set(other.p.unread(stage_parameters(NAME)))


# --- keys


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """Our source on a copy, to be edited; ``edit(module)`` changes its code."""
    for package in (*keys.PACKAGES, "params"):
        shutil.copytree(keys.SOURCE / package, tmp_path / "source" / package, ignore=shutil.ignore_patterns("*.pyc"))
    monkeypatch.setattr(keys, "SOURCE", tmp_path / "source")

    def edit(module: str, text: str = "\nEDITED = True\n") -> None:
        path = keys.SOURCE.joinpath(*module.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        path.write_text(path.read_text() + text)
    return edit


def parts(path, text: str = "pass", **overrides) -> dict:
    cells = [{"cell_type": "markdown", "source": "words"},
             {"cell_type": "code", "source": "seed: int = 0", "metadata": {"tags": ["parameters"]}},
             {"cell_type": "code", "source": text, "metadata": {}}]
    (path / "n.ipynb").write_text(json.dumps({"cells": cells}))
    return keys.key_parts(path / "n.ipynb", load(overrides=overrides, stage=NAME))


def test_an_edited_loader_changes_exactly_the_stages_that_had_loaded_it(tmp_path, copy, monkeypatch):
    from gmiqa.data import datasets
    loaders = {name: f"gmiqa.data.datasets.{name}" for name in datasets.NAMES}
    finished = {}
    for name in loaders:
        with monkeypatch.context() as patch:
            for module in loaders.values():
                patch.delitem(sys.modules, module, raising=False)
            datasets.family(name)
            finished[name] = json.loads(json.dumps(keys.narrowed(parts(tmp_path), keys.loaded())))
    for edited, module in loaders.items():
        before = {name: keys.as_recorded(parts(tmp_path), {"parts": record}) for name, record in finished.items()}
        copy(module)
        for name, record in finished.items():
            why = keys.differences(before[name], keys.as_recorded(parts(tmp_path), {"parts": record}))
            assert why == ([f"modules changed: data.datasets.{edited}"] if module in record["modules"] else [])
        assert module in finished[edited]["modules"]
    assert any(loaders["livec"] not in record["modules"] for record in finished.values())


def test_a_finished_stage_stands_on_what_it_had_loaded_and_an_unfinished_one_on_everything(tmp_path, copy):
    first = parts(tmp_path)
    record = {"parts": keys.narrowed(first, ["gmiqa_core.losses", "gmiqa.runs.stage"])}
    copy("gmiqa_core.graph")
    second = parts(tmp_path)
    assert keys.key(first) != keys.key(second)
    assert keys.key(record["parts"]) == keys.key(keys.as_recorded(second, record))
    (keys.SOURCE / "gmiqa_core" / "losses.py").unlink()
    assert keys.differences(record["parts"], keys.as_recorded(parts(tmp_path), record)) == [
        "modules changed: gmiqa_core.losses"]


def test_words_and_layout_of_a_module_do_not_count(tmp_path, copy):
    before = keys.modules()
    copy("gmiqa_core.losses", "\n\n# a comment\n")
    copy("gmiqa.settings.table")
    assert keys.modules() == before and not [m for m in before if m.startswith("gmiqa.settings")]


def test_a_data_file_counts_for_the_modules_that_name_it(copy):
    names = {"gmiqa/report/look.css": "gmiqa.report.executed", "gmiqa/bundled/model.onnx": "gmiqa.score.scorer",
             "params/ablations/bl.yaml": "gmiqa.experiments.ablation_rows"}
    for file, module in names.items():
        before = keys.modules()
        with open(keys.SOURCE / file, "ab") as data:
            data.write(b" ")
        after = keys.modules()
        changed = {m for m in after if after[m] != before[m]}
        assert module in changed and len(changed) < 7, f"{file}: {changed}"


def test_a_key_names_what_changed(tmp_path):
    first, other = parts(tmp_path), parts(tmp_path, seed=1)
    assert keys.key(other) != keys.key(first) and keys.differences(first, other) == ["seed: 0 → 1"]
    older = first | {"versions": first["versions"] | {"torch": "1.0"}, "modules": first["modules"] | {"gmiqa.cli": ""}}
    assert keys.differences(older, first) == [f"torch: 1.0 → {first['versions']['torch']}", "modules changed: cli"]
    assert set(first["versions"]) == {"python", "torch", "numpy"} and all(first["versions"].values())


def test_comments_and_the_folder_of_the_run_do_not_change_a_key(tmp_path):
    first = parts(tmp_path, "x = 1", run="outputs/a")
    assert keys.key(first) == keys.key(parts(tmp_path, "x = 1  # a comment\n", run="outputs/b"))
    assert keys.key(first) != keys.key(parts(tmp_path, "x = 2"))


def test_the_files_of_a_data_folder_are_part_of_the_key(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"1")
    first = parts(tmp_path, data=str(tmp_path / "pictures"))
    assert list(first["data"]) == ["data"]
    (tmp_path / "pictures" / "b.png").write_bytes(b"2")
    second = parts(tmp_path, data=str(tmp_path / "pictures"))
    assert keys.differences(first, second) == ["the files of data changed"]


@pytest.mark.parametrize("given, is_path", [
    ({"data": "photos"}, True), ({"test_data": "photos"}, True), ({"csv": "photos"}, True),
    ({"data": "embedded"}, False), ({"data": "nowhere"}, False), ({"csv_image": "photos"}, False)])
def test_a_declared_path_needs_no_separator_and_a_word_is_none(tmp_path, monkeypatch, given, is_path):
    monkeypatch.setattr(provenance, "repository_root", lambda: tmp_path)
    for name in ("photos", "embedded", "package"):
        (tmp_path / name).mkdir()
    first = parts(tmp_path, **given)
    for name in ("photos", "embedded"):
        (tmp_path / name / "a.png").write_bytes(b"1")
    why = [f"the files of {name} changed" for name in given if is_path]
    assert list(first["data"]) == [name for name in given if is_path]
    assert keys.differences(first, parts(tmp_path, **given)) == why
    assert keys.is_path("imagenet", "photos") and not keys.is_path("imagenet", "package")


def test_links_that_lead_nowhere_or_back_do_not_stop_the_key(tmp_path):
    (tmp_path / "beside.png").write_bytes(b"1")
    data = tmp_path / "pictures"
    (data / "sub").mkdir(parents=True)
    (data / "sub" / "a.png").write_bytes(b"1")
    plain = keys.fingerprint(data)
    for name, target in (("gone.png", "nowhere"), ("itself", "itself"), ("above", ".."), ("again", "."),
                         ("sub/back", "../sub")):
        (data / name).symlink_to(target)
    assert keys.fingerprint(data) == plain
    (tmp_path / "more").mkdir()
    (data / "more").symlink_to("../more")
    (tmp_path / "more" / "b.png").write_bytes(b"1")
    assert keys.fingerprint(data) != plain


def test_lines_for_ipython_do_not_stop_the_key(tmp_path):
    assert keys.key(parts(tmp_path, "%matplotlib inline\nx = 1")) != keys.key(parts(tmp_path, "x = 1"))


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
