"""The chain: every notebook in order, each in a child process, skipping what is done.

    Chain(run, settings).go()        or        gmiqa run params/quick.yaml

A stage is done when its run.json says so and nothing that it depends on has changed since (see keys.py). Whatever ends
a chain, the same command continues: stages that are done stay, an unfinished one starts again from its own checkpoints.
"""

from __future__ import annotations

import shutil
import signal
import threading
import time
from pathlib import Path

from gmiqa.runs import provenance
from gmiqa.runs.child import Child
from gmiqa.runs.keys import as_recorded, key
from gmiqa.runs.lock import locked
from gmiqa.runs.order import NEEDS
from gmiqa.runs.pace import Pace
from gmiqa.runs.plan import TIMES, Plan, Step, shown
from gmiqa.runs.progress import MARK, counted, duration
from gmiqa.runs.schedule import Task


class Stopped(BaseException):
    """SIGTERM or SIGHUP, as an exception so that the children are ended on the way out."""


class Chain(Plan):
    """A plan that is carried out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._waiting: dict[str, Step] = {}
        self._children: list[Child] = []
        self._failed: dict[str, str] = {}
        self._pace = Pace()

    def go(self) -> int:
        """Run what is not done. 0: all of it is done; 1: a stage failed; 130 and 143: stopped from outside."""
        before = {number: signal.signal(number, _stop) for number in (signal.SIGTERM, signal.SIGHUP)
                  if _main_thread() and signal.getsignal(number) != signal.SIG_IGN}
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
        except OSError as error:  # a full disk, a folder taken away
            self.say(f"\nstopped: {error}. Put that right; then the same command continues from here.")
            return 1
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _loop(self) -> int:
        plan = self.plan()
        self._waiting = {step.name: step for step in plan if step.why}
        total = len(self._waiting)
        self.say(f"{shown(self.run)}: " + (f"{total} of {len(plan)} stages to run, about "
                 f"{duration(self.span(self._waiting.values()))} ({self.basis()})"
                 if total else f"everything is done ({len(plan)} stages)"))
        self._begun = 0
        while self._waiting or self._children:
            while len(self._children) < self.jobs and (ready := self._next()):
                self._begin(ready, total)
            for child in list(self._children):
                self._listen(child)
            time.sleep(0.05)
        return 1 if self._failed else 0

    def _next(self) -> str | None:
        """The stage to begin now; those whose needs failed are given up."""
        for name in list(self._waiting):
            lost = [n for n in NEEDS[name] if n in self._failed]
            if lost:
                self._failed[name] = f"not run, as it needs {lost[0]}"
                self.say(f"{name} is {self._failed[name]}")
                del self._waiting[name]
                return self._next()
        return self.room.following(self.tasks(self._waiting.values()), self._at_work())

    def _at_work(self, ratio: float = 1.0) -> dict[str, Task]:
        """The running stages with the seconds that they still need."""
        return {child.name: Task(max(0.0, max(child.least, ratio * child.expected) - child.elapsed), child.threads)
                for child in self._children}

    def _ratio(self) -> float:
        return self._pace.ratio((child.least, child.expected) for child in self._children)

    def left(self) -> float:
        """Seconds until all is done, at the pace that this machine has shown so far."""
        ratio = self._ratio()
        waiting = self.tasks(self._waiting.values(), ratio)
        return max(self.room.ends(waiting, self._at_work(ratio)).values(), default=0.0)

    def _begin(self, name: str, total: int) -> None:
        """Start a stage. Its key is taken anew: the stages before it have run since the plan was made."""
        step = self._waiting.pop(name)
        records = {n: provenance.record(self.run / n) for n in self.known}
        step = self.step(name, {n: provenance.upstream_key(r) for n, r in records.items() if r})
        self._begun += 1
        if not step.why:
            self.say(f"[{self._begun}/{total}] {name} is done: what it stands on came out as before")
            return
        if twin := self._twin(step):
            provenance.adopt(twin, self.run / name)
            self.say(f"[{self._begun}/{total}] {name} is taken over from {shown(twin)}")
            return
        child = Child(step, f"[{self._begun}/{total}] {name}", self.expected(step))
        request = {"name": name, "notebook": str(self.notebooks / f"{name}.ipynb"), "folder": str(self.run / name),
                   "parameters": step.settings.plain(), "sources": step.settings.source, "parts": step.parts,
                   "fresh": self.force, "cwd": str(self.notebooks.parent)}
        self.say(f"{child.title} begins, {counted(step.threads, 'thread')}, about "
                 f"{duration(self._ratio() * child.expected)}: {'; '.join(step.why)}")
        child.start(request, self.run / name)
        self._children.append(child)
        self._lock.children([c.pid for c in self._children])

    def _twin(self, step: Step) -> Path | None:
        """The folder of this stage in another run below ``reuse`` that finished it with what it would have here."""
        if self.reuse is None or self.force:
            return None
        for folder in sorted(self.reuse.glob(f"*/{step.name}")):
            record = provenance.record(folder)
            if folder.parent != self.run and record and record.get("key") == key(as_recorded(step.parts, record)):
                return folder
        return None

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
            times[child.name] = [result["seconds"], round(self.estimated(child.step), 2)]
            provenance.write_json(self.run / TIMES, times)
            self._pace.ended(result["seconds"], child.expected)
            left = self.left()
            self.say(f"{child.title} took {duration(result['seconds'])} ({duration(result['cpu_seconds'])} of "
                     f"processor), {result['peak_memory'] / 2**20:.0f} MB; "
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


def _main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _stop(*_: object) -> None:
    raise Stopped
