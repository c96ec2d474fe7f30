"""What a chain would do, and why: decided from run.json files and keys alone, without running anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gmiqa.runs import estimate, provenance
from gmiqa.runs.keys import as_recorded, differences, key, key_parts
from gmiqa.runs.order import LAST, NEEDS, below
from gmiqa.runs.progress import duration
from gmiqa.runs.schedule import Room, Task
from gmiqa.settings import Settings, stage_parameters
from gmiqa.threads import cores
from gmiqa_core.errors import UserError

TIMES = "times.json"


@dataclass
class Step:
    """One stage of a plan: ``why`` is empty where it is done.

    parts  what its result may depend on, with all of our modules
    key    of the parts, with the modules that its record names where it has one
    threads  of its process; of each of them where it has several
    """

    name: str
    key: str
    why: list[str]
    settings: Settings
    parts: dict[str, Any]
    threads: int


@dataclass
class Plan:
    """The notebooks, a folder ``run`` for their results, and which of them to run.

    settings    values and sources of all parameters
    only, start names of stages: just these; or these and whatever stands on them
    force       run selected stages although they are done
    jobs        independent stages side by side
    reuse       a folder of other runs, whose finished stages with the same key are taken over
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
    reuse: Path | None = None
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
        self.room = Room(self.jobs, cores())
        self.device = estimate.hardware(self.settings["device"])
        # [seconds, what was estimated] of each stage before this run: what it adds itself changes no expectation
        times = provenance.read_json(self.run / TIMES) or {}
        self.times = {name: entry for name, entry in times.items() if isinstance(entry, list)}

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
        threads = self.threads(name)
        parts = key_parts(self.notebooks / f"{name}.ipynb", settings, upstream, threads)
        record = provenance.record(self.run / name)
        now = as_recorded(parts, record)
        return Step(name, key(now), self._why(name, record, now), settings, parts, threads)

    def threads(self, name: str) -> int:
        """As set, else as planned; several training processes share them out."""
        workers = self.settings["workers"] if "workers" in stage_parameters(name) else 1
        return self.settings["threads"] or max(1, self.room.threads(name) // workers)

    def _why(self, name: str, record: dict[str, Any] | None, now: dict[str, Any]) -> list[str]:
        folder = self.run / name
        if record is None:
            return ["was not finished" if (folder / provenance.STARTED).exists() else "has not run yet"]
        if record.get("by") != "chain":
            return ["was run by hand, outside the chain"]
        missing = [p["path"] for p in record["products"] if not _same_size(folder / p["path"], p["size"])]
        if missing:
            return [f"{missing[0]} is missing or changed" + (f" (and {len(missing) - 1} more)" if missing[1:] else "")]
        if record.get("key") != key(now):
            return differences(record.get("parts"), now) or ["its key changed"]
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
                    keys[name] = provenance.upstream_key(record)
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
            todo = f"would run, about {duration(self.expected(step))}: {'; '.join(step.why)}"
            self.say(f"{step.name:<{width}}  " + (todo if step.why else "is done"))
        waiting = [step for step in steps if step.why]
        self.say(f"{len(waiting)} of {len(steps)} stages would run in {shown(self.run)}"
                 + (f", about {duration(self.span(waiting))} ({self.basis()})" if waiting else ""))
        return 0

    def span(self, steps: Iterable[Step]) -> float:
        """Seconds that these steps are expected to take, as the chain runs them."""
        return max(self.room.ends(self.tasks(steps)).values(), default=0.0)

    def tasks(self, steps: Iterable[Step], ratio: float = 1.0) -> dict[str, Task]:
        """``ratio``: how much slower this machine is than expected."""
        return {step.name: Task(ratio * self.expected(step), step.threads) for step in steps}

    def expected(self, step: Step) -> float:
        """Seconds: an estimate, corrected by how far it was off when stages of this run were run last."""
        known = [self.times[step.name]] if step.name in self.times else list(self.times.values())
        took, estimated = (sum(entry[k] for entry in known) for k in (0, 1))
        return self.estimated(step) * (took / estimated if estimated else 1.0)

    def estimated(self, step: Step) -> float:
        return estimate.seconds(step.name, self.settings, step.threads, self.device)

    def basis(self) -> str:
        """What an expected time stands on, in words."""
        if self.times:
            return "as last time"
        return f"by rates measured on an H200; here is {self.device}" if estimate.gpu(self.device) else (
            f"estimated for {self.device}, {self.room.cores} cores")


def shown(path: Path) -> str:
    """Relative to where the person stands, if it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _same_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size
