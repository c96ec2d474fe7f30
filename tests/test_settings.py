"""Settings: conversion or refusal, layers with their sources, and one table behind every notebook."""

import json
import re
from pathlib import Path

import pytest
import yaml

from gmiqa import settings
from gmiqa.cli import main
from gmiqa.settings import STAGES, TABLE, Parameter, load, names
from gmiqa_core.errors import UserError

ROOT = Path(__file__).parent.parent
PRESETS = sorted((ROOT / "params").rglob("*.yaml"))
SWEEP_FOLDER = "sweeps"


def parameter(kind, **words):
    return Parameter("x", kind, None, "an example", **words)


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (int, "7", 7), (int, 7.0, 7), (int, "1e3", 1000), (int, "-2", -2),
        (float, "1e-3", 0.001), (float, 2, 2.0), (float, ".5", 0.5),
        (bool, "false", False), (bool, "True", True), (bool, 0, False), (bool, True, True), (bool, "off", False),
        (str, "a b", "a b"), (str, 2024, "2024"), (str, None, ""), (str, "none", "none"),
        (list, "a, b", ["a", "b"]), (list, "[a, b]", ["a", "b"]), (list, ["a"], ["a"]), (list, "a", ["a"]),
        (list, "", []), (list, None, []), (list, ("a",), ["a"]),
    ],
)
def test_a_value_becomes_the_parameters_type(kind, given, expected):
    result = parameter(kind).convert(given)
    assert result == expected and type(result) is kind


def test_elements_of_a_list_are_converted():
    assert parameter(list, items=int).convert("[5, 20]") == [5, 20]
    assert parameter(list, items=float).convert(["1e-3", 1]) == [0.001, 1.0]


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (int, "x", "not a number"), (int, 2.5, "not whole"), (int, True, "true or false"), (int, "010", "zero"),
        (float, "nan", "not finite"), (float, "inf", "not finite"), (float, None, "not a number"),
        (bool, "maybe", "neither true nor false"), (bool, 2, "neither"), (str, True, "bool"), (str, [1], "list"),
        (list, {"a": 1}, "mapping"), (list, "[a", "list"),
    ],
)
def test_what_cannot_be_converted_is_refused_with_the_reason(kind, given, words):
    with pytest.raises(UserError, match=words) as caught:
        parameter(kind).convert(given)
    assert str(caught.value).startswith("x: ")


def test_ranges_and_choices_hold():
    share = parameter(float, low=0, high=1)
    assert share.convert(0) == 0.0 and share.convert("1") == 1.0
    with pytest.raises(UserError, match="above 1; expected a number from 0 to 1"):
        share.convert(1.5)
    with pytest.raises(UserError, match="below 0"):
        share.convert(-0.1)
    with pytest.raises(UserError, match="did you mean 'bank'"):
        parameter(str, choices=("bank", "batch")).convert("bnk")
    with pytest.raises(UserError, match="below 1"):
        parameter(list, items=int, low=1).convert([3, 0])


def test_a_choice_may_stand_for_numbers_or_texts():
    device = parameter(str, choices=("cpu", "cuda:N", "timm:NAME"))
    assert [device.convert(text) for text in ("cpu", "cuda:1", "timm:x")] == ["cpu", "cuda:1", "timm:x"]
    for text in ("cuda:", "cuda:N", "cuda:1x", "timm:", "1"):
        with pytest.raises(UserError, match="expected one of cpu, cuda:N, timm:NAME"):
            device.convert(text)


@pytest.mark.parametrize("text, words", [
    ("held_out=[jpg]", "did you mean 'jpeg'"), ("baselines=brisqe", "did you mean 'brisque_svr'"),
    ("baselines=pyiqa:", "choices"), ("split=17", "choices"), ("split=officiel", "did you mean 'official'"),
    ("device=cdua", "did you mean 'cuda'"), ("qap_types=blur", "choices"), ("ablation_rows=[DRG]", "choices"),
    ("qap_backbones=resnet", "did you mean 'resnet50'")])
def test_a_wrong_value_is_refused_before_anything_starts(text, words, capsys):
    assert main(["run", "-p", text, "--dry-run"]) == 2
    told = capsys.readouterr()
    assert not told.out and f"-p: {text.partition('=')[0]}: " in told.err and words in told.err


def test_the_names_are_those_that_the_rooms_above_know():
    from gmiqa import baselines
    from gmiqa.data import datasets, distortions
    from gmiqa.experiments import ablation_rows, backbones

    assert tuple(t.name for t in distortions.TYPES) == names.DISTORTIONS
    assert (*baselines.NAMES, *baselines.FOREIGN, "pyiqa:METRIC") == names.BASELINES
    assert tuple(row.name for row in ablation_rows.ROWS) == names.ABLATION_ROWS
    assert (*backbones.NAMES, "timm:NAME") == names.BASE_NETWORKS
    assert (*map(str, datasets.STORED), "official") == names.SPLITS


def test_a_parameter_that_names_files_is_declared_as_a_path():
    said = {name for name, entry in TABLE.items() if entry.type is str and name != "run"
            and re.search("folder of|a folder|file of|weights file|^checkpoint", entry.help)}
    assert said == {name for name, entry in TABLE.items() if entry.path}


def test_an_unknown_name_is_refused_with_the_near_one():
    with pytest.raises(UserError, match="no parameter 'sead'; did you mean 'seed'"):
        load(overrides={"sead": 3})


def test_layers_win_in_order_and_name_their_source(tmp_path):
    (tmp_path / "a.yaml").write_text("seed: 1\nmeta_lr: 1e-3\nrun: outputs/a\n")
    (tmp_path / "b.yaml").write_text("run: outputs/b\nmeta_first_order: no\n")
    given = load(tmp_path / "a.yaml", tmp_path / "b.yaml", overrides={"seed": "5"})
    assert (given.seed, given["meta_lr"], given.run, given.meta_first_order) == (5, 0.001, "outputs/b", False)
    assert given.source["seed"] == "-p" and given.source["device"] == "default"
    assert given.source["meta_lr"].endswith("a.yaml") and given.source["run"].endswith("b.yaml")


def test_a_stage_gets_its_own_parameters_and_the_files_may_hold_others(tmp_path):
    (tmp_path / "all.yaml").write_text("meta_steps: 3\nseed: 2\n")
    given = load(tmp_path / "all.yaml", stage="00_start_here")
    assert given.seed == 2 and "meta_steps" not in given
    with pytest.raises(AttributeError, match="meta_steps"):
        _ = given.meta_steps
    with pytest.raises(UserError, match="did you mean '50_evaluation'"):
        load(stage="50_evaluaton")


@pytest.mark.parametrize(
    ("text", "words"),
    [("- a\n", "expected lines like"),
     ("a: [", "not YAML near line"), ("seed: 1\nseed: 2\n", "'seed' is given twice"),
     ("seed: 010\n", "begins with a zero")],
)
def test_a_bad_file_is_refused_by_name(tmp_path, text, words):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        load(tmp_path / "bad.yaml")
    assert "bad.yaml" in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match="nowhere.yaml: there is no such file"):
        load("nowhere.yaml")


def test_overrides_are_split_at_the_first_equals_sign():
    assert settings.parse_overrides(["seed=1", "data=a=b"]) == {"seed": "1", "data": "a=b"}
    with pytest.raises(UserError, match="name=value"):
        settings.parse_overrides(["seed"])


def test_a_condition_holds_by_value_and_does_not_count_where_its_parameter_is_unknown():
    entry = parameter(int, only_if="kind!=a and mode=x|y and file!=")
    assert entry.needed({}) and entry.needed({"kind": "b", "mode": "y", "file": "f"})
    for values in ({"kind": "a"}, {"mode": "z"}, {"file": ""}):
        assert not entry.needed(values)
    assert parameter(int, only_if="steps=0").needed({"steps": 0}) and parameter(int).needed({"steps": 3})
    some = parameter(int, only_if="rows=full|")
    assert some.needed({"rows": []}) and some.needed({"rows": ["BL", "full"]}) and not some.needed({"rows": ["BL"]})


def test_only_what_is_asked_for_by_name_counts_as_read():
    given = load()
    assert "seed" in given and len(given) and repr(given) and given.lines() and given.plain()["seed"] == 0
    assert given.read == set()
    assert (given.seed, given["splits"], given.get("meta_lr")) == (0, 2, 0.001)
    assert given.read == {"seed", "splits", "meta_lr"}


def test_what_is_read_of_a_copy_is_read_of_the_original_unless_it_was_replaced():
    given = load()
    copy = given.replaced(seed=3).replaced(splits=2)
    assert (copy.seed, copy.splits, copy.meta_lr) == (3, 2, 0.001)
    assert copy.read == {"seed", "splits", "meta_lr"} and given.read == {"meta_lr"}


def test_settings_do_not_share_lists_with_the_table():
    load().held_out.append("x")
    assert "x" not in load().held_out


@pytest.mark.parametrize("name", TABLE)
def test_every_parameter_is_sound(name):
    entry = TABLE[name]
    assert entry.help and "=" not in entry.help and '"' not in entry.help and "#" not in entry.help
    assert entry.stages and set(entry.stages) <= set(STAGES)
    assert len(entry.line()) <= 120, f"{name}: shorten its help"
    assert entry.convert(entry.default) == entry.default and type(entry.default) is entry.type
    for condition in filter(None, entry.only_if.split(" and ")):
        other, values = condition.replace("!", "").split("=")
        assert set(TABLE[other].stages) & set(entry.stages), f"{name}: no notebook takes both it and {other}"
        assert all(TABLE[other].convert(value) is not None for value in values.split("|"))


@pytest.mark.parametrize("path", [p for p in PRESETS if SWEEP_FOLDER not in p.parts], ids=lambda p: p.stem)
def test_every_preset_and_overlay_loads(path):
    load(path)
    # papermill reads the same file with YAML's own rules: both must give the same values
    plain = yaml.safe_load(path.read_text()) or {}
    assert {name: TABLE[name].convert(value) for name, value in plain.items()} == {
        name: load(path)[name] for name in plain
    }


@pytest.mark.parametrize("stage", STAGES)
def test_a_notebooks_parameters_cell_is_the_table(stage):
    path = ROOT / "notebooks" / f"{stage}.ipynb"
    if not path.exists():
        pytest.skip(f"{path.name} does not exist yet")
    cells = [c for c in json.loads(path.read_text())["cells"] if "parameters" in c["metadata"].get("tags", [])]
    assert len(cells) == 1
    assert "".join(cells[0]["source"]) == settings.parameters_cell(stage), "python -m gmiqa.settings --write"
