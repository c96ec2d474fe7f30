"""Runs over splits, seeds and data sets: a small YAML file becomes a list of chain runs, each in its own folder.

    name: splits                              # folder below outputs/; without it, the file's name
    base: [params/quick.yaml]                 # parameter files of every run
    only: [50_evaluation]                     # stages, with those they depend on; without it, all
    seeds: [0, 1, 2]                          # or a number: 3 means 0, 1, 2
    grid:                                     # every combination
      split: [0, 1, 2]
      params: [params/koniq10k.yaml, params/livec.yaml]      # overlay files may be an axis too

A run that is done is skipped by its own chain, so the same command continues an interrupted sweep. A stage that another
run of the sweep has finished with the same key is taken over (the ten splits of a data set share their pre-training).
"""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gmiqa.runs import provenance
from gmiqa.runs.order import NEEDS, above, stage_name
from gmiqa.runs.progress import duration
from gmiqa.settings import TABLE, load
from gmiqa_core.errors import UserError, did_you_mean

FIELDS = ("name", "base", "only", "seeds", "grid")
FILES = "params"  # the axis whose values are parameter files


@dataclass(frozen=True)
class Point:
    """One run of a sweep: ``values`` of its axes, the folder below outputs/, the command that makes it."""

    name: str
    values: dict[str, Any]
    folder: Path
    command: list[str]


def read(path: str | Path) -> list[Point]:
    """Every run of a sweep file, checked: what a run would refuse is refused here, before any run starts."""
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as a sweep file ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected lines like 'seeds: 3', found a {type(content).__name__}")
    for field in content:
        if field not in FIELDS:
            raise UserError(f"{path}: there is no field '{field}'{did_you_mean(field, FIELDS)}; "
                            f"the fields are {', '.join(FIELDS)}")
    name = str(content.get("name") or path.stem)
    base = [str(file) for file in _list(content.get("base", []))]
    grid = content.get("grid") or {}
    if not isinstance(grid, dict):
        raise UserError(f"{path}: grid: expected lines like 'split: [0, 1]' below it, found a {type(grid).__name__}")
    axes = {str(axis): _list(values) for axis, values in grid.items()}
    if "seeds" in content:
        seeds = content["seeds"]
        axes["seed"] = list(range(seeds)) if isinstance(seeds, int) else _list(seeds)
    for axis, values in axes.items():
        if axis != FILES and axis not in TABLE:
            raise UserError(f"{path}: there is no parameter '{axis}'{did_you_mean(axis, [*TABLE, FILES])}")
        if not values:
            raise UserError(f"{path}: the axis '{axis}' has no values")
    chosen = [stage_name(str(word)) for word in _list(content.get("only", []))]
    stages = [stage for stage in NEEDS if stage in {s for one in chosen for s in {one, *above(one)}}]
    points = [_point(name, base, stages, dict(zip(axes, values, strict=True)))
              for values in itertools.product(*axes.values())]
    _refuse_shared(path, points)
    return points


def _refuse_shared(path: Path, points: list[Point]) -> None:
    """Two runs in one folder would overwrite each other's results."""
    known: dict[str, Point] = {}
    for point in points:
        other = known.setdefault(point.name, point)
        if other is not point:
            both = " and ".join(", ".join(f"{axis}={_text(value)}" for axis, value in one.values.items())
                                for one in (other, point))
            raise UserError(f"{path}: two runs would share the folder {point.folder}: {both}; expected values whose "
                            "names differ, so leave one out, or rename its file or folder")


def _point(sweep: str, base: list[str], stages: list[str], values: dict[str, Any]) -> Point:
    files = base + [str(file) for file in _list(values.get(FILES, []))]
    given = {axis: _text(value) for axis, value in values.items() if axis != FILES}
    load(*(provenance.repository_root() / file for file in files), overrides=given, stage=None)
    name = ",".join(f"{axis}={_short(value)}" for axis, value in values.items()) or "base"
    folder = Path("outputs") / sweep / name
    command = [sys.executable, "-m", "gmiqa", "run", *files, "--name", f"{sweep}/{name}",
               "--reuse", str(folder.parent)]
    command += [part for axis, text in given.items() for part in ("-p", f"{axis}={text}")]
    command += ["--only", ",".join(stages)] if stages else []
    return Point(name, values, folder, command)


def execute(points: list[Point], jobs: int = 1) -> list[int]:
    """Run the points, ``jobs`` side by side, each chain's words in its folder's chain.txt; their exit statuses.

    A signal that asks to stop ends the chains first, and then this process: status 130 after Ctrl-C, else 143.
    """
    root, clock = provenance.repository_root(), time.monotonic()
    waiting, statuses = list(enumerate(points)), [0] * len(points)
    running: dict[int, subprocess.Popen[bytes]] = {}
    with _noted() as asked:
        try:
            while (waiting or running) and not asked:
                while waiting and len(running) < jobs and not asked:
                    k, point = waiting.pop(0)
                    print(f"[{k + 1}/{len(points)}] {point.name} begins", flush=True)
                    running[k] = _start(point, root)
                time.sleep(0.2)
                for k, process in list(running.items()):
                    if process.poll() is not None:
                        statuses[k] = running.pop(k).returncode
                        words = "is done" if statuses[k] == 0 else f"FAILED with status {statuses[k]}, see " \
                            f"{points[k].folder / 'chain.txt'}"
                        print(f"[{k + 1}/{len(points)}] {points[k].name} {words}; "
                              f"{duration(time.monotonic() - clock)} so far", flush=True)
        finally:
            for process in running.values():
                process.terminate()  # the chain ends its kernels, and continues when it is called again
            for process in running.values():
                process.wait()
    if asked:
        print("\nstopped. What is done stays done; the same command continues from here.", flush=True)
        sys.exit(130 if asked[0] == signal.SIGINT else 143)
    return statuses


@contextmanager
def _noted() -> Iterator[list[int]]:
    """Signals that ask to stop are written into this list: raised at once, they might lose a chain that just began."""
    asked: list[int] = []
    heard = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: asked.append(number)) for number in heard}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(point: Point, root: Path) -> subprocess.Popen[bytes]:
    """The point's chain in a session of its own: a Ctrl-C in the terminal reaches the sweep alone, which ends it."""
    folder = root / point.folder
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "chain.txt", "wb") as log:
        return subprocess.Popen(point.command, cwd=root, stdout=log, stderr=log, start_new_session=True)


def results(points: list[Point]) -> Any:
    """One tidy table: a row per run and number, with the axes of its run; runs without a result leave no rows."""
    import pandas as pd
    rows = []
    for point in points:
        for stage in NEEDS:
            record = provenance.record(provenance.repository_root() / point.folder / stage) or {}
            axes = {axis: _short(value) for axis, value in point.values.items()}
            rows += [{"run": point.name, **axes, "stage": stage,
                      **{k: number[k] for k in ("name", "value", "low", "high", "n", "unit")}}
                     for number in record.get("numbers", [])]
    names = list(points[0].values) if points else []
    return pd.DataFrame(rows, columns=["run", *names, "stage", "name", "value", "low", "high", "n", "unit"])


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _text(value: Any) -> str:
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, list) else str(value)


def _short(value: Any) -> str:
    """A value as part of a folder's name: files by their stem, and nothing that a shell or a path cannot take."""
    words = [Path(str(v)).stem if str(v).endswith((".yaml", ".yml")) else str(v) for v in _list(value)]
    return re.sub(r"[^\w.+-]", "_", "+".join(words)) or "none"
