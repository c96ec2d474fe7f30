"""The chain on tiny throw-away notebooks: every fault leaves a state from which the same command continues."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from gmiqa.runs import keys, provenance
from gmiqa.runs.chain import Chain
from gmiqa.runs.lock import locked
from gmiqa.runs.schedule import Room
from gmiqa.settings import TABLE, load
from gmiqa_core.errors import UserError

FIRST, SECOND, REPORT = "20_meta_pretraining", "30_distortion_graphs", "90_report"

# What a notebook does for the chain, without torch: the numbers grow in a checkpoint, and stage.json closes it.
OPEN = """
import json, os, pathlib, time
folder = pathlib.Path(run) / "{name}"
checkpoint = folder / "checkpoint.txt"
steps = checkpoint.read_text().split() if checkpoint.exists() else []
fault = pathlib.Path(run).parent / "fault.py"
"""
WORK = """
for k in range(len(steps), 4):
    steps.append(str(k * k + seed))
    checkpoint.write_text(" ".join(steps))
    if k == 2 and fault.exists():
        (pathlib.Path(run).parent / "kernel.pid").write_text(str(os.getpid()))
        exec(fault.read_text())
"""
CLOSE = """
out = folder / "out.txt"
out.write_text(" ".join(steps))
products = [{{"path": "out.txt", "size": out.stat().st_size, "sha256": ""}}]
(folder / "stage.json").write_text(json.dumps({{"status": "done", "stage": "{name}", "by": "chain",
                                               "products": products, "modules": ["gmiqa_core.losses"]}}))
"""

DRIVER = """
import os, sys, pathlib
from gmiqa.runs.chain import Chain
from gmiqa.settings import load
os.environ["CHAIN_PID"] = str(os.getpid())
run, notebooks, seed, timeout = sys.argv[1:5]
settings = load(overrides={"seed": seed})
sys.exit(Chain(pathlib.Path(run), settings, notebooks=pathlib.Path(notebooks), timeout=float(timeout)).go())
"""


def write_notebook(folder: Path, name: str, *code: str, words: str = "") -> None:
    parameters = {"cell_type": "code", "id": "p", "metadata": {"tags": ["parameters"]}, "outputs": [],
                  "execution_count": None, "source": "run: str = 'outputs/quick'\nseed: int = 0"}
    cells = [{"cell_type": "markdown", "id": "m", "metadata": {}, "source": words}, parameters] + [
        {"cell_type": "code", "id": f"c{k}", "metadata": {}, "outputs": [], "execution_count": None, "source": text}
        for k, text in enumerate(code)]
    content = {"cells": cells, "nbformat": 4, "nbformat_minor": 5, "metadata": {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}}
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.ipynb").write_text(json.dumps(content))


def write_stages(folder: Path, *names: str, words: str = "") -> None:
    for name in names:
        write_notebook(folder, name, *(text.format(name=name) if text != WORK else text
                                       for text in (OPEN, WORK, CLOSE)), words=words)


def run_chain(tmp_path: Path, fault: str = "", seed: int = 0, timeout: float = 0) -> tuple[int, str]:
    """The exit status and what the terminal showed; ``fault`` is executed in the middle of a notebook's work."""
    place = tmp_path / "fault.py"
    place.unlink(missing_ok=True)
    if fault:
        place.write_text(fault)
    done = subprocess.run([sys.executable, "-c", DRIVER, str(tmp_path / "run"), str(tmp_path / "notebooks"), str(seed),
                           str(timeout)], capture_output=True, text=True, timeout=300,
                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    return done.returncode, done.stdout + done.stderr


def assert_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"the kernel {pid} outlived its chain"
        time.sleep(0.1)


# What happens in the middle of the work, the exit status, what the terminal says, and whether a notebook is kept.
FAULTS = {
    "an error in a cell": ("raise ValueError('no such thing')", 1, "ValueError: no such thing", True),
    "a full disk": ("raise OSError(28, 'No space left on device')", 1, "the disk is full", True),
    "kill -9 of the kernel": ("os.kill(os.getpid(), 9)", 1, "the kernel died", True),
    "kill -9 of the executor": ("os.kill(os.getppid(), 9); time.sleep(120)", 1, "ended with status -9", True),
    "Ctrl-C": ("os.kill(int(os.environ['CHAIN_PID']), 2); time.sleep(120)", 130, "the same command continues", False),
    "SIGTERM": ("os.kill(int(os.environ['CHAIN_PID']), 15); time.sleep(120)", 143, "the same command continues", False),
    "kill -9 of the chain": ("os.kill(int(os.environ['CHAIN_PID']), 9); time.sleep(120)", -9, "", False),
}


@pytest.mark.timeout(600)  # eleven chains, one after the other
def test_every_fault_leaves_a_state_from_which_the_same_command_continues(tmp_path):
    write_stages(tmp_path / "notebooks", FIRST)
    assert run_chain(tmp_path)[0] == 0
    first = (tmp_path / "run" / FIRST / "run.json").read_bytes()
    write_stages(tmp_path / "notebooks", SECOND)
    folder = tmp_path / "run" / SECOND
    for name, (fault, status, words, kept) in FAULTS.items():
        # The work stops at its third step; a fault that finds it there already would never fire.
        (folder / "checkpoint.txt").unlink(missing_ok=True)
        found, text = run_chain(tmp_path, fault)
        assert found == status, f"{name}: {text}"
        assert words in text, f"{name}: {text}"
        assert provenance.record(folder) is None, name
        assert (folder / f"{SECOND}.failed.ipynb").exists() == kept, name
        assert (folder / "checkpoint.txt").read_text() == "0 1 4", name
        if kept:
            assert SECOND in text and "in cell 4" in text and f"{SECOND}.failed.ipynb" in text, f"{name}: {text}"
        assert_gone(int((tmp_path / "kernel.pid").read_text()))
    status, text = run_chain(tmp_path)
    assert status == 0 and "continues an interrupted run" in text
    assert (folder / "out.txt").read_text() == "0 1 4 9"
    assert not list(folder.glob("*.failed.ipynb")) and not list(folder.glob("*.unfinished.ipynb"))
    assert (tmp_path / "run" / FIRST / "run.json").read_bytes() == first, "a stage that was done ran again"
    assert "everything is done" in run_chain(tmp_path)[1]


def test_time_out_ends_the_stage_and_its_kernel(tmp_path):
    write_notebook(tmp_path / "notebooks", FIRST, "import time; time.sleep(120)")
    status, text = run_chain(tmp_path, timeout=1)
    assert status == 1 and "took longer than --timeout 1 s" in text
    assert provenance.record(tmp_path / "run" / FIRST) is None


@pytest.mark.timeout(300)
def test_a_stage_whose_needs_failed_is_not_run_but_the_report_is(tmp_path):
    write_stages(tmp_path / "notebooks", FIRST, SECOND, REPORT)
    write_notebook(tmp_path / "notebooks", FIRST, "raise RuntimeError('broken')")
    status, text = run_chain(tmp_path)
    assert status == 1 and f"{SECOND} is not run, as it needs {FIRST}" in text
    assert provenance.record(tmp_path / "run" / REPORT) is not None
    assert not (tmp_path / "run" / SECOND).exists()


def test_another_setting_never_continues_from_this_ones_checkpoint(tmp_path):
    folder = tmp_path / "stage"
    provenance.begin(folder, "key of seed 0")
    (folder / "checkpoint.txt").write_text("0 1")
    assert provenance.begin(folder, "key of seed 0") and (folder / "checkpoint.txt").exists()
    assert not provenance.begin(folder, "key of seed 5") and not (folder / "checkpoint.txt").exists()
    (folder / "checkpoint.txt").write_text("5 6")
    assert not provenance.begin(folder, "key of seed 5", fresh=True) and not (folder / "checkpoint.txt").exists()


def test_the_chain_trusts_no_checkpoint_that_was_made_by_hand(tmp_path):
    folder = tmp_path / "stage"
    provenance.begin(folder, "key", hand=True)
    (folder / "checkpoint.txt").write_text("0 1")
    assert not provenance.begin(folder, "key") and not (folder / "checkpoint.txt").exists()


def test_begin_removes_nothing_from_a_folder_that_is_not_ours(tmp_path):
    (tmp_path / "holiday.jpg").write_text("precious")
    provenance.begin(tmp_path, "key")
    assert (tmp_path / "holiday.jpg").exists()


def test_a_second_chain_on_the_same_folder_is_refused(tmp_path):
    with locked(tmp_path), pytest.raises(UserError, match=f"another chain is at work there .process {os.getpid()}"):
        Chain(tmp_path, load(), notebooks=_one_notebook(tmp_path)).go()


def test_the_lock_of_a_dead_chain_is_taken_over_and_its_child_ended(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    code = ("import os, pathlib, sys; from gmiqa.runs.lock import locked\n"
            "with locked(pathlib.Path(sys.argv[1])) as lock:\n"
            "    lock.children([int(sys.argv[2])]); os.kill(os.getpid(), 9)")
    subprocess.run([sys.executable, "-c", code, str(tmp_path), str(child.pid)])
    assert "children" in (tmp_path / ".lock").read_text() and child.poll() is None
    with locked(tmp_path):
        assert not psutil.pid_exists(child.pid)


def test_dry_run_says_what_and_why_and_starts_nothing(tmp_path, capsys):
    write_stages(tmp_path / "notebooks", FIRST, SECOND)
    for name in (FIRST, SECOND):
        _pretend_done(tmp_path, name)

    def plan(**overrides) -> str:
        chain = Chain(tmp_path / "run", load(overrides=overrides), notebooks=tmp_path / "notebooks")
        assert chain.dry_run() == 0
        return capsys.readouterr().out

    assert "0 of 2 stages would run" in plan()
    assert "seed: 0 → 1" in plan(seed=1)
    assert f"graph_steps: {TABLE['graph_steps'].default} → 5" in plan(graph_steps=5) and "1 of 2" in plan(graph_steps=5)
    write_stages(tmp_path / "notebooks", FIRST, words="other words")
    assert "0 of 2 stages would run" in plan()
    write_notebook(tmp_path / "notebooks", FIRST, "pass")
    assert "the notebook's code changed" in plan() and f"{FIRST} has a new result" in plan()
    (tmp_path / "run" / SECOND / "out.txt").unlink()
    assert "out.txt is missing" in plan()
    assert not list((tmp_path / "run").glob("*/log.txt"))


def test_only_the_stage_that_had_loaded_a_module_runs_again_and_what_stands_on_it(tmp_path, monkeypatch):
    write_stages(tmp_path / "notebooks", FIRST, SECOND, "80_metaqap")
    _pretend_done(tmp_path, FIRST, ("gmiqa_core.losses",))
    _pretend_done(tmp_path, SECOND, ("gmiqa_core.losses", "gmiqa_core.graph"))
    _pretend_done(tmp_path, "80_metaqap", ("gmiqa.base_networks",))
    every = keys.modules()

    def plan(edited: str) -> dict[str, list[str]]:
        monkeypatch.setattr(keys, "modules", lambda: every | {edited: "edited"})
        chain = Chain(tmp_path / "run", load(), notebooks=tmp_path / "notebooks")
        return {step.name: step.why for step in chain.plan() if step.why}

    assert plan("gmiqa.cli.run") == {}
    assert plan("gmiqa_core.graph") == {SECOND: ["modules changed: gmiqa_core.graph"]}
    assert plan("gmiqa_core.losses") == {
        FIRST: ["modules changed: gmiqa_core.losses"],
        SECOND: ["modules changed: gmiqa_core.losses", f"{FIRST} has a new result"]}


def test_a_finished_stage_of_another_run_is_found_by_the_modules_that_it_had_loaded(tmp_path, monkeypatch):
    write_stages(tmp_path / "notebooks", FIRST)
    _pretend_done(tmp_path, FIRST, run=tmp_path / "runs" / "a")
    every = keys.modules()
    chain = Chain(tmp_path / "runs" / "b", load(), notebooks=tmp_path / "notebooks", reuse=tmp_path / "runs")
    for edited, found in (("gmiqa.cli.run", tmp_path / "runs" / "a" / FIRST), ("gmiqa_core.losses", None)):
        monkeypatch.setattr(keys, "modules", lambda edited=edited: every | {edited: "edited"})
        assert chain._twin(chain.step(FIRST, {})) == found


def test_what_stands_on_a_stage_that_came_out_as_before_is_not_run_again(tmp_path):
    write_stages(tmp_path / "notebooks", FIRST, SECOND)
    assert run_chain(tmp_path)[0] == 0
    (tmp_path / "run" / FIRST / "run.json").unlink()
    second = (tmp_path / "run" / SECOND / "run.json").read_bytes()
    status, text = run_chain(tmp_path)
    assert status == 0 and f"{SECOND} is done: what it stands on came out as before" in text
    assert (tmp_path / "run" / SECOND / "run.json").read_bytes() == second
    record = provenance.record(tmp_path / "run" / FIRST)
    assert record and list(record["parts"]["modules"]) == ["gmiqa_core.losses"] and "modules" not in record


def test_another_number_of_threads_by_plan_keeps_what_is_done_and_one_that_is_set_does_not(tmp_path):
    write_stages(tmp_path / "notebooks", FIRST, SECOND)
    for name in (FIRST, SECOND):
        _pretend_done(tmp_path, name)

    def why(cores: int, **overrides: int) -> list[list[str]]:
        chain = Chain(tmp_path / "run", load(overrides=overrides), notebooks=tmp_path / "notebooks")
        chain.room = Room(1, cores)
        steps = chain.plan()
        assert {step.parts["threads"] for step in steps} == {overrides.get("threads", cores)}
        return [step.why for step in steps]

    assert why(1) == why(7) == [[], []]
    assert why(1, threads=3) == [["threads: 0 → 3"], ["threads: 0 → 3", f"{FIRST} has a new result"]]


def test_a_stage_runs_on_the_threads_of_its_plan_and_its_record_says_how_many(tmp_path):
    tell = CLOSE.replace('"by"', '"env": os.environ["OMP_NUM_THREADS"], "by"').format(name=FIRST)
    write_notebook(tmp_path / "notebooks", FIRST, OPEN.format(name=FIRST), WORK, tell)
    chain = Chain(tmp_path / "run", load(overrides={"threads": "3"}), notebooks=tmp_path / "notebooks")
    assert chain.go() == 0
    record = provenance.record(tmp_path / "run" / FIRST)
    assert record and record["env"] == "3" and record["parts"]["threads"] == 3


def test_only_refuses_a_stage_whose_needs_are_not_there(tmp_path):
    write_stages(tmp_path / "notebooks", FIRST, SECOND)
    chain = Chain(tmp_path / "run", load(), notebooks=tmp_path / "notebooks", only=[SECOND])
    with pytest.raises(UserError, match=f"{SECOND} needs {FIRST}"):
        chain.dry_run()


def test_from_selects_a_stage_and_those_on_it(tmp_path):
    write_stages(tmp_path / "notebooks", FIRST, SECOND, "80_metaqap", REPORT)
    chain = Chain(tmp_path / "run", load(), notebooks=tmp_path / "notebooks", start=SECOND)
    assert chain.selected == [SECOND, REPORT]


def test_a_mistyped_parameter_exits_2_and_starts_nothing(tmp_path):
    done = subprocess.run([sys.executable, "-m", "gmiqa", "run", "-p", "sead=3", "-p", f"run={tmp_path / 'run'}"],
                          capture_output=True, text=True)
    assert done.returncode == 2 and "did you mean 'seed'" in done.stderr and not list(tmp_path.iterdir())


def test_an_overlay_gets_a_folder_of_its_own():
    from gmiqa.cli.run import run_folder
    root = provenance.repository_root()
    one, two = [str(root / "params" / "quick.yaml")], [str(root / "params" / f"{n}.yaml") for n in ("quick", "livec")]
    assert run_folder(load(*one), one, None) == Path("outputs/quick")
    assert run_folder(load(*two), two, None) == Path("outputs/quick-livec")
    assert run_folder(load(*two, overrides={"run": "outputs/x"}), two, None) == Path("outputs/x")
    assert run_folder(load(*two), two, "y") == Path("outputs/y")


def test_the_chain_decides_without_heavy_imports():
    code = ("import sys, gmiqa.runs.chain, gmiqa.cli.run\n"
            "heavy = ('torch', 'numpy', 'pandas', 'papermill', 'IPython', 'matplotlib')\n"
            "print([m for m in heavy if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def _one_notebook(tmp_path: Path) -> Path:
    write_stages(tmp_path / "notebooks", FIRST)
    return tmp_path / "notebooks"


def _pretend_done(tmp_path: Path, name: str, modules: tuple[str, ...] = ("gmiqa_core.losses",),
                  run: Path | None = None) -> None:
    """The record that a finished stage would have left."""
    chain = Chain(run or tmp_path / "run", load(), notebooks=tmp_path / "notebooks")
    records = {n: provenance.record(chain.run / n) for n in (FIRST, SECOND)}
    step = chain.step(name, {n: r["key"] for n, r in records.items() if r})
    parts = keys.narrowed(step.parts, modules)
    folder = chain.run / name
    folder.mkdir(parents=True)
    (folder / "out.txt").write_text("0")
    provenance.write_json(folder / "run.json", {
        "status": "done", "by": "chain", "key": keys.key(parts), "parts": parts,
        "products": [{"path": "out.txt", "size": 1, "sha256": ""}]})
