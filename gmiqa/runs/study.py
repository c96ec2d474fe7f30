"""Units of the study, each in a process with one thread, into a few small tables that stay in the repository.

    results = Results(Path("outputs/findings"))
    run(p, ["ablations"], results, jobs=2, until=600)

A unit that is finished lies in the work folder at once, and in the results' table when the run ends; neither is done
again. A run that is stopped loses the units in progress: their trainings continue from their last checkpoints if the
work folder is still there.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import multiprocessing
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmiqa.runs import provenance
from gmiqa.runs.progress import duration
from gmiqa_core.errors import UserError, did_you_mean

RECORD = "study.json"
# They say how much is done, or where; not what a unit gives.
FREE = ("run", "device", "threads", "workers", "data", "test_data", "dataset_path", "csv_subset", "ablation_rows",
        "ablation_seeds", "meta_seeds", "qap_seeds")
DIGITS = 5


@dataclass(frozen=True)
class Results:
    """A folder with a table for each experiment, and study.json: with which settings, versions and commits."""

    folder: Path

    def table(self, name: str) -> Any:
        import pandas as pd

        from gmiqa.experiments.study import EXPERIMENTS, joined

        path, keys = self.folder / f"{name}.csv.gz", EXPERIMENTS[name].keys
        return joined([pd.read_csv(path).set_index(list(keys))] if path.is_file() else [], keys)

    def record(self) -> dict[str, Any]:
        return provenance.read_json(self.folder / RECORD) or {}

    def checked(self, name: str, p: Any) -> None:
        """Refuse to put results of other settings beside those that are there."""
        before = self.record().get(name, {}).get("parameters", {})
        now = {key: value for key, value in giving(p.plain()).items() if key in before}
        if changed := [key for key in before if before[key] != now.get(key)]:
            texts = ", ".join(f"{key}={now.get(key)} (there: {before[key]})" for key in changed)
            raise UserError(f"{self.folder} holds results of '{name}' with other settings: {texts}. Use those, or give "
                            "--to another folder.")

    def add(self, name: str, tables: Sequence[Any], parameters: dict[str, Any], seconds: float) -> int:
        """Put units into the table of an experiment, and what they were made with into the record."""
        import torch

        from gmiqa.experiments.study import EXPERIMENTS, joined

        if not tables:
            return 0
        keys = EXPERIMENTS[name].keys
        whole = joined([self.table(name), *tables], keys)
        packed = gzip.compress(whole.to_csv(float_format=f"%.{DIGITS}g").encode(), mtime=0)
        provenance.write_atomically(self.folder / f"{name}.csv.gz", packed)
        record = self.record()
        entry = record.get(name, {"parameters": {}, "made": []})
        entry["parameters"] |= {key: value for key, value in sorted(parameters.items()) if key not in FREE}
        entry["made"].append({"units": len(tables), "seconds": round(seconds), "finished": provenance.now(),
                              **provenance.commit(provenance.repository_root()),
                              **provenance.versions(("torch", "numpy")),
                              "processor": torch.backends.cpu.get_cpu_capability()})
        provenance.write_json(self.folder / RECORD, record | {name: entry})
        return len(tables)


def known(names: Sequence[str]) -> list[str]:
    """The experiments of these names; all of them without any."""
    from gmiqa.experiments.study import EXPERIMENTS

    for name in names:
        if name not in EXPERIMENTS:
            raise UserError(f"--only {name}: there is no such experiment{did_you_mean(name, EXPERIMENTS)}; there are "
                            f"{', '.join(EXPERIMENTS)}")
    return list(dict.fromkeys(names)) or list(EXPERIMENTS)


def wanted(names: Sequence[str], p: Any) -> list[str]:
    """Those of these experiments that have anything to do with these settings."""
    from gmiqa.experiments.study import EXPERIMENTS

    return [name for name in names if EXPERIMENTS[name].shards(p)]


def left(p: Any, name: str, results: Results, work: Path) -> dict[tuple[int, ...], list[str]]:
    """Shard -> the units that neither the results nor the work folder hold."""
    from gmiqa.experiments.study import EXPERIMENTS

    experiment, table = EXPERIMENTS[name], results.table(name)
    units = {shard: [unit for unit in experiment.units(p, shard) if unit not in experiment.finished(table, p, shard)
                     and not _path(work, name, shard, unit).is_file()] for shard in experiment.shards(p)}
    return {shard: some for shard, some in units.items() if some}


def giving(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that say what a unit gives. A file of scores is known by what it holds, wherever it lies."""
    kept = {key: value for key, value in values.items() if key not in FREE}
    if csv := values.get("csv"):
        places = Path(values.get("dataset_path") or "", csv), Path(csv)
        kept["csv"] = next((provenance.sha256(path)[:16] for path in places if path.is_file()), csv)
    return kept


def work_folder(parent: Path, p: Any) -> Path:
    """Where trainings with these settings lie: no other settings meet them there."""
    return parent / hashlib.sha256(json.dumps(giving(p.plain()), sort_keys=True).encode()).hexdigest()[:12]


def run(p: Any, names: Sequence[str], results: Results, work: Path, jobs: int = 1, until: float = 0) -> int:
    """Do what is left of these experiments, `jobs` shards side by side, for `until` seconds (0: until all is done).
    Returns the number of shards that failed."""
    names = wanted(names, p)
    for name in names:
        results.checked(name, p)
        collect(name, results, work)
    tasks = [(name, shard, units, p.plain(), str(work)) for name in names
             for shard, units in left(p, name, results, work).items()]
    print(f"{sum(len(units) for _, _, units, *_ in tasks)} units left in {len(tasks)} shards", flush=True)
    began, failed = time.monotonic(), 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what is finished is collected, and no process stays
    # side by side, each shard has a process of its own, so that its pictures go with it
    fresh = 1 if jobs > 1 else None
    with multiprocessing.get_context("spawn").Pool(max(1, min(jobs, len(tasks))), maxtasksperchild=fresh) as pool:
        waiting = pool.imap_unordered(_shard, tasks)
        try:
            for _ in tasks:
                rest = max(0.0, until - (time.monotonic() - began)) if until else None
                failed += bool(waiting.next(rest))
        except multiprocessing.TimeoutError:
            print(f"stopped after {duration(until)}", flush=True)
        finally:
            pool.terminate()
            made = {name: collect(name, results, work) for name in names}
    print(", ".join(f"{name}: {count} units" for name, count in made.items()) + f", in {results.folder}", flush=True)
    return failed


def collect(name: str, results: Results, work: Path) -> int:
    """Move finished units from the work folder into the results."""
    import pandas as pd

    from gmiqa.experiments.study import EXPERIMENTS

    files = sorted((work / name).glob("*/*.csv"))
    records = [provenance.read_json(path.with_suffix(".json")) or {} for path in files]
    tables = [pd.read_csv(path).set_index(list(EXPERIMENTS[name].keys)) for path in files]
    read = {key: value for record in records for key, value in record.get("parameters", {}).items()}
    count = results.add(name, tables, read, sum(record.get("seconds", 0) for record in records))
    for path in files:
        path.unlink()
        path.with_suffix(".json").unlink(missing_ok=True)
    return count


def _path(work: Path, name: str, shard: Sequence[int], unit: str) -> Path:
    return work / name / "_".join(map(str, shard)) / f"{unit.replace(' ', '_').replace(',', '')}.csv"


def _shard(task: tuple[str, tuple[int, ...], list[str], dict[str, Any], str]) -> str:
    """Work off one shard in this process; returns why it failed, or nothing."""
    import torch

    from gmiqa.experiments.study import EXPERIMENTS
    from gmiqa.settings import load

    torch.set_num_threads(1)
    name, shard, units, values, folder = task
    try:
        p = load(overrides=values)
        unit_work = EXPERIMENTS[name].open(p, shard)
        for unit in units:
            began, path = time.monotonic(), _path(Path(folder), name, shard, unit)
            torch.manual_seed(p.seed)
            table = unit_work(unit, path.with_suffix(""))
            seconds = time.monotonic() - began
            record = {"parameters": giving({key: values[key] for key in p.read}), "seconds": seconds}
            provenance.write_json(path.with_suffix(".json"), record)
            provenance.write_atomically(path, table.to_csv(float_format=f"%.{DIGITS}g").encode())
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            print(f"{name} {shard} {unit}: {duration(seconds)}", flush=True)
    except Exception as error:  # a unit that fails must not stop the others; what went wrong is printed
        print(f"{name} {shard} failed: {error}\n{'' if isinstance(error, UserError) else traceback.format_exc()}",
              flush=True)
        return str(error) or type(error).__name__
    return ""
