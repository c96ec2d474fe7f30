"""The chain: every notebook in order, each in a child process, skipping what is done.

    Chain(run, settings).go()        or        python -m gmiqa_core run params/quick.yaml

A stage is done when its run.json says so with the key that it would have now (see keys.py). Whatever ends a chain,
the same command continues: stages that are done stay, an unfinished one starts again from its own checkpoints.
"""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gmiqa_core.runs import provenance
from gmiqa_core.runs.child import Child
from gmiqa_core.runs.keys import differences, key, key_parts
from gmiqa_core.runs.lock import locked
from gmiqa_core.runs.order import LAST, NEEDS, SECONDS, above, below
from gmiqa_core.runs.progress import MARK, duration
from gmiqa_core.settings import Settings, UserError, stage_parameters

TIMES = "times.json"


@dataclass
class Step:
    """One stage of a plan: ``why`` is empty where it is done."""

    name: str
    key: str
    why: list[str]
    settings: Settings
    upstream: dict[str, str] = field(default_factory=dict)


class Stopped(BaseException):
    """SIGTERM or SIGHUP, as an exception so that the children are ended on the way out."""


@dataclass
class Chain:
    """One run of the notebooks into the folder ``run``.

    settings    values and sources of all parameters
    only, start names of stages: just these; or these and whatever stands on them
    force       run selected stages although they are done
    jobs        independent stages side by side
    timeout     seconds that a stage may take, 0 for no limit
    """

    run: Path
    settings: Settings
    notebooks: Path = field(default_factory=lambda: provenance.repository_root() / "notebooks")
    only: Iterable[str] = ()
    start: str = ""
    force: bool = False
    jobs: int = 1
    timeout: float = 0
    say: Callable[[str], None] = lambda text: print(text, flush=True)  # noqa: E731

    def __post_init__(self) -> None:
        self.known = [name for name in NEEDS if (self.notebooks / f"{name}.ipynb").is_file()]
        if not self.known:
            raise UserError(f"{self.notebooks}: there are no notebooks there")
        chosen = set(self.only) or ({self.start} | below(self.start) if self.start else set(self.known))
        for name in sorted(chosen - set(self.known)):
            if self.only:
                raise UserError(f"{self.notebooks / name}.ipynb: there is no such notebook")
        self.selected = [name for name in self.known if name in chosen]

    # --- deciding ------------------------------------------------------------------------------------------------

    def stage_settings(self, name: str) -> Settings:
        names = stage_parameters(name)
        values = {n: self.settings[n] for n in names} | {"run": self._run_parameter()}
        return Settings(values, {n: self.settings.source[n] for n in names} | {"run": "the chain"})

    def _run_parameter(self) -> str:
        root = provenance.repository_root()
        return str(self.run.relative_to(root) if self.run.is_relative_to(root) else self.run)

    def step(self, name: str, keys: dict[str, str]) -> Step:
        """What is to be done about one stage, given the keys of the stages before it."""
        needed = [n for n in self.known if n != LAST] if name == LAST else NEEDS[name]
        upstream = {n: keys[n] for n in needed if n in keys}
        settings = self.stage_settings(name)
        parts = key_parts(self.notebooks / f"{name}.ipynb", settings, upstream)
        return Step(name, key(parts), self._why(name, parts), settings, upstream)

    def _why(self, name: str, parts: dict[str, Any]) -> list[str]:
        folder = self.run / name
        record = provenance.record(folder)
        if record is None:
            return ["was not finished" if (folder / provenance.STARTED).exists() else "has not run yet"]
        if record.get("by") != "chain":
            return ["was run by hand, outside the chain"]
        missing = [p["path"] for p in record["products"] if not _same_size(folder / p["path"], p["size"])]
        if missing:
            return [f"{missing[0]} is missing or changed" + (f" (and {len(missing) - 1} more)" if missing[1:] else "")]
        if record.get("key") != key(parts):
            return differences(record.get("parts"), parts) or ["its key changed"]
        return ["--force"] if self.force else []

    def plan(self) -> list[Step]:
        """Every selected stage in order. UserError where one stands on a stage that is neither done nor selected."""
        keys: dict[str, str] = {}
        steps = []
        for name in self.known:
            if name in self.selected:
                steps.append(self.step(name, keys))
                keys[name] = steps[-1].key
            else:
                record = provenance.record(self.run / name)
                if record:
                    keys[name] = record.get("key") or f"by hand {record['finished']}"
        for step in steps:
            for needed in NEEDS[step.name]:
                if needed in self.known and needed not in keys and step.why:
                    raise UserError(f"{step.name} needs {needed}, which is not finished in {self.run} and not "
                                    f"selected: add it to --only, or use --from {needed}")
        return steps

    def dry_run(self) -> int:
        """Print what would run and why; start nothing."""
        steps = self.plan()
        width = max(len(step.name) for step in steps)
        for step in steps:
            self.say(f"{step.name:<{width}}  " + (f"would run: {'; '.join(step.why)}" if step.why else "is done"))
        waiting = [step for step in steps if step.why]
        self.say(f"{len(waiting)} of {len(steps)} stages would run in {shown(self.run)}"
                 + (f", about {duration(sum(map(self._expected, waiting)))}" if waiting else ""))
        return 0

    # --- running -------------------------------------------------------------------------------------------------

    def go(self) -> int:
        """Run what is not done. 0: all of it is done; 1: a stage failed; 130 and 143: stopped from outside."""
        before = {number: signal.signal(number, _stop) for number in (signal.SIGTERM, signal.SIGHUP)
                  if _main_thread() and signal.getsignal(number) != signal.SIG_IGN}
        self._children: list[Child] = []
        self._clock = time.monotonic()
        try:
            with locked(self.run) as lock:
                self._lock = lock
                try:
                    return self._loop()
                finally:
                    self._end_children()
        except (KeyboardInterrupt, Stopped) as stop:
            self.say("\nstopped. What is done stays done; the same command continues from here.")
            return 130 if isinstance(stop, KeyboardInterrupt) else 143
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _loop(self) -> int:
        plan = self.plan()
        self._waiting = {step.name: step for step in plan if step.why}
        total = len(self._waiting)
        basis = "as last time" if (self.run / TIMES).exists() else "as quick takes on two cores"
        self.say(f"{shown(self.run)}: " + (f"{total} of {len(plan)} stages to run, about "
                 f"{duration(sum(map(self._expected, self._waiting.values())))} ({basis})"
                 if total else f"everything is done ({len(plan)} stages)"))
        self._failed: dict[str, str] = {}
        self._begun = 0
        while self._waiting or self._children:
            while len(self._children) < self.jobs and (ready := self._next()):
                self._begin(ready, total)
            for child in list(self._children):
                self._listen(child)
            time.sleep(0.05)
        return 1 if self._failed else 0

    def _next(self) -> str | None:
        """The first waiting stage whose needs are met; those whose needs failed are given up."""
        busy = {child.name for child in self._children} | set(self._waiting)
        for name in list(self._waiting):
            lost = [n for n in NEEDS[name] if n in self._failed]
            if lost:
                self._failed[name] = f"not run, as it needs {lost[0]}"
                self.say(f"{name} is {self._failed[name]}")
                del self._waiting[name]
                return self._next()
            if not (busy - {name} if name == LAST else busy & above(name)):
                return name
        return None

    def _begin(self, name: str, total: int) -> None:
        """Start a stage. Its key is taken anew: the stages before it have run since the plan was made."""
        step = self._waiting.pop(name)
        records = {n: provenance.record(self.run / n) for n in self.known}
        step = self.step(name, {n: r.get("key") or f"by hand {r['finished']}" for n, r in records.items() if r})
        self._begun += 1
        child = Child(name, f"[{self._begun}/{total}] {name}", time.monotonic())
        request = {"name": name, "notebook": str(self.notebooks / f"{name}.ipynb"), "folder": str(self.run / name),
                   "parameters": dict(step.settings), "sources": step.settings.source, "upstream": step.upstream,
                   "fresh": self.force, "cwd": str(self.notebooks.parent)}
        self.say(f"{child.title} begins, about {duration(self._expected(step))}: {'; '.join(step.why) or '--force'}")
        child.start(request, self.run / name, threads=self.jobs)
        self._children.append(child)
        self._lock.children([c.pid for c in self._children])

    def _listen(self, child: Child) -> None:
        for event in child.events():
            if event["event"] == "line" and (text := event["text"]).startswith(MARK):
                if child.may_speak():
                    self.say(f"      {text}")
            elif event["event"] == "line" and event["text"].startswith(f"{child.name}, seed"):
                self.say(f"      {event['text'].partition(', ')[2]}")
            elif event["event"] == "continued":
                self.say("      continues an interrupted run of the same key")
        if self.timeout and time.monotonic() - child.began > self.timeout and child.alive():
            child.result = {"event": "failed", "error": "TimeoutError", "cell": child.where,
                            "text": f"took longer than --timeout {self.timeout:g} s"}
            child.kill()
        if not child.alive():
            child.drain()
            self._children.remove(child)
            self._lock.children([c.pid for c in self._children])
            self._ended(child)

    def _ended(self, child: Child) -> None:
        result = child.result or {"event": "failed", "error": "process", "cell": child.where,
                                  "text": f"ended with status {child.status} and no word: killed from outside?"}
        elapsed = time.monotonic() - self._clock
        if result["event"] == "done":
            times = provenance.read_json(self.run / TIMES) or {}
            provenance.write_json(self.run / TIMES, times | {child.name: result["seconds"]})
            left = sum(self._expected(step) for step in self._waiting.values())
            self.say(f"{child.title} took {duration(result['seconds'])}, {result['peak_memory'] / 2**20:.0f} MB; "
                     f"{duration(elapsed)} so far" + (f", about {duration(left)} left" if left else ""))
            return
        folder = self.run / child.name
        unfinished, kept = (folder / f"{child.name}.{word}.ipynb" for word in ("unfinished", "failed"))
        if unfinished.exists():
            unfinished.replace(kept)
        self._failed[child.name] = f"{result['error']}: {result['text'].strip()}"
        lines = [f"{child.title} FAILED in cell {result['cell']}: {self._failed[child.name]}"]
        lines += [f"      | {line}" for line in result.get("trace", [])[-6:-1] if line.strip()]
        if result.get("disk_full"):
            free = shutil.disk_usage(self.run).free / 2**20
            lines.append(f"      the disk is full ({free:.0f} MB free): make room, then give the same command again")
        lines.append(f"      kept as {shown(kept)}" if kept.exists() else "      no cell of it had run")
        lines.append(f"      log: {shown(folder / provenance.LOG)}")
        self.say("\n".join(lines))

    def _end_children(self) -> None:
        for child in self._children:
            child.kill()

    def _expected(self, step: Step) -> float:
        times = provenance.read_json(self.run / TIMES) or {}
        return float(times.get(step.name, SECONDS[step.name]))


def shown(path: Path) -> str:
    """Relative to where the person stands, if it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _same_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _main_thread() -> bool:
    import threading
    return threading.current_thread() is threading.main_thread()


def _stop(*_: object) -> None:
    raise Stopped


def results(run: Path, file: Any = sys.stdout) -> None:
    """The numbers of all finished stages, and where the report is."""
    rows = []
    for name in NEEDS:
        for number in (provenance.record(run / name) or {}).get("numbers", []):
            value, low, high = number["value"], number["low"], number["high"]
            text = f"{value:.3f}" if isinstance(value, float) else str(value)
            text += f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
            text += f" {number['unit']}" if number["unit"] else ""
            rows.append((name, number["name"], text, "" if number["n"] is None else f"n = {number['n']}"))
    widths = [max((len(row[k]) for row in rows), default=0) for k in range(4)]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip(), file=file)
    report = run / "report.html"
    if report.exists():
        print(f"\nreport: {shown(report)}", file=file)
