"""A sweep file is a list of runs: checked before any of them, each in its own folder, with one table at the end."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from gmiqa.cli import main
from gmiqa.runs import provenance, sweep
from gmiqa_core.errors import UserError


def write(folder: Path, text: str) -> Path:
    path = folder / "two.yaml"
    path.write_text(text)
    return path


def test_a_sweep_is_every_combination_in_a_folder_of_its_own(tmp_path):
    points = sweep.read(write(tmp_path, "base: params/tiny.yaml\nseeds: 2\ngrid: {split: [0, 1, official]}\nonly: 40"))
    assert [point.name for point in points][:2] == ["split=0,seed=0", "split=0,seed=1"]
    assert len({point.folder for point in points}) == 6
    command = shlex.join(points[-1].command)
    assert "run params/tiny.yaml --name two/split=official,seed=1" in command
    assert "-p split=official -p seed=1" in command and "--reuse outputs/two" in command
    assert "--only 20_meta_pretraining,30_distortion_graphs,40_fine_tuning" in command


def test_parameter_files_may_be_an_axis(tmp_path):
    points = sweep.read(write(tmp_path, "base: params/quick.yaml\ngrid: {params: [params/tiny.yaml, params/cpu.yaml]}"))
    assert [point.name for point in points] == ["params=tiny", "params=cpu"]
    assert points[1].command[4:6] == ["params/quick.yaml", "params/cpu.yaml"]


@pytest.mark.parametrize("text, words", [
    ("gird: {seed: [1]}", "did you mean 'grid'"), ("grid: {sead: [1]}", "did you mean 'seed'"),
    ("grid: {seed: [-1]}", "seed"), ("base: params/quik.yaml", "no such file"), ("only: 35", "no stage '35'"),
    ("grid: {seed: []}", "no values"), ("- 1", "expected lines"), ("grid: [seed]", "grid: expected lines"),
    ("grid: {split: [17]}", "split: '17' is not one of its choices")])
def test_a_mistake_is_refused_before_any_run(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        sweep.read(write(tmp_path, text))


@pytest.mark.parametrize("text, both", [
    ("seeds: [0, 0]", "seed=0 and seed=0"),
    ("grid: {dataset_path: [/data/a b, /data/a_b]}", "dataset_path=/data/a b and dataset_path=/data/a_b"),
    ("grid: {params: [%s/x/koniq.yaml, %s/y/koniq.yaml]}", "x/koniq.yaml and params=.*y/koniq.yaml")])
def test_runs_that_would_share_a_folder_are_refused(tmp_path, text, both):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "koniq.yaml").write_text("dataset: koniq10k")
    with pytest.raises(UserError, match=f"two runs would share the folder outputs/two/.*{both}"):
        sweep.read(write(tmp_path, text.replace("%s", str(tmp_path))))


def test_dry_run_lists_the_commands_and_starts_nothing(tmp_path, capsys):
    path = write(tmp_path, "base: params/tiny.yaml\nseeds: 3\nname: nothing-of-it")
    assert main(["sweep", str(path), "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "3 runs" in text and "--name nothing-of-it/seed=2" in text
    assert not (provenance.repository_root() / "outputs" / "nothing-of-it").exists()


def test_runs_go_side_by_side_and_a_failed_one_stops_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "repository_root", lambda: tmp_path)
    points = [sweep.Point(f"p{k}", {"seed": k}, Path(f"p{k}"), [sys.executable, "-c", f"print({k}); exit({k})"])
              for k in (0, 3, 0)]
    assert sweep.execute(points, jobs=2) == [0, 3, 0]
    assert (tmp_path / "p3" / "chain.txt").read_text() == "3\n"


DRIVER = """
import pathlib, sys
from gmiqa.runs import provenance, sweep
provenance.repository_root = pathlib.Path.cwd
chain = "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(120)"
sweep.execute([sweep.Point(str(k), {}, pathlib.Path(str(k)), [sys.executable, "-c", chain]) for k in range(2)])
"""


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 143)])
def test_a_signal_ends_the_chains_before_the_sweep(tmp_path, number, status):
    process = subprocess.Popen([sys.executable, "-c", DRIVER], cwd=tmp_path, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True,  # the tests may run in the background, or in nohup
                               preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
    deadline = time.monotonic() + 60
    while not (text := (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else ""):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    chain = psutil.Process(int(text))
    try:
        process.send_signal(number)
        told = process.communicate(timeout=60)[0]
        assert process.returncode == status and "Traceback" not in told, told
        assert "the same command continues" in told and not chain.is_running()
        assert not (tmp_path / "1").exists()
    finally:
        for left in (process, chain):
            with suppress(psutil.NoSuchProcess):
                left.kill()


def test_the_table_has_a_row_for_every_number_of_every_finished_run(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "repository_root", lambda: tmp_path)
    points = [sweep.Point(f"seed={k}", {"seed": k}, Path(f"seed={k}"), []) for k in range(3)]
    for k in (0, 2):
        number = {"name": "srocc", "value": k / 10, "low": None, "high": None, "n": 5, "unit": "", "text": ""}
        provenance.write_json(tmp_path / f"seed={k}" / "50_evaluation" / "run.json",
                              {"status": "done", "numbers": [number]})
    table = sweep.results(points)
    assert list(table.columns) == ["run", "seed", "stage", "name", "value", "low", "high", "n", "unit"]
    assert table.value.tolist() == [0.0, 0.2] and table.seed.tolist() == ["0", "2"]


def test_a_stage_with_the_same_key_is_taken_over_whole(tmp_path):
    first, second = tmp_path / "a" / "20_meta_pretraining", tmp_path / "b" / "20_meta_pretraining"
    first.mkdir(parents=True)
    (first / "meta.safetensors").write_bytes(b"weights")
    provenance.write_json(first / "run.json", {"status": "done", "key": "k"})
    provenance.adopt(first, second)
    assert (second / "meta.safetensors").read_bytes() == b"weights"
    record = provenance.record(second)
    assert record and record["key"] == "k" and record["taken_from"] == str(first)
    assert json.loads((first / "run.json").read_text()) == {"status": "done", "key": "k"}


def test_the_command_refuses_an_index_that_is_not_there(tmp_path):
    path = write(tmp_path, "base: params/tiny.yaml\nseeds: 2")
    done = subprocess.run([sys.executable, "-m", "gmiqa", "sweep", str(path), "--index", "2"],
                          capture_output=True, text=True)
    assert done.returncode == 2 and "runs 0 to 1" in done.stderr
