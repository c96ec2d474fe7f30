"""What a notebook tells its run: ``open_stage`` in the first cell, ``stage.close()`` in the last.

    stage = open_stage("30_distortion_graphs", globals())
    stage.figure(fig, "edge_variance", "Edges grow alike from layer to layer", alt="...")
    stage.number("srocc", 0.81, n=240, low=0.76, high=0.85, text="Scores follow the human order.")
    stage.close()

The same cells work in JupyterLab, under plain papermill and in the chain.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from gmiqa.runs import keys, provenance
from gmiqa.runs.kernel import in_kernel, plain, seed_everything, set_threads, shown_width
from gmiqa.runs.parameter_cell import given
from gmiqa.runs.progress import counted
from gmiqa.runs.saved_table import save_table
from gmiqa.settings import STAGES, TABLE, Settings, load, stage_parameters
from gmiqa_core.errors import UserError, did_you_mean

OUTCOMES = ("holds", "does not hold", "no difference", "undecided", "not run here")
CHAIN = "GMIQA_CHAIN"  # the chain's message to its notebook: JSON with the key and the sources of the parameters
READ = "read.txt"  # the parameters that were read
CLOSED = "stage.json"  # what the notebook hands to the chain, which writes run.json after the notebook is saved


def open_stage(name: str, namespace: Mapping[str, Any]) -> Stage:
    """Check and convert the notebook's parameters, seed everything, print the parameters, return the stage.

    ``namespace`` is the notebook's ``globals()``. Names set in the parameters cell, in papermill's injected cell or
    between them and this cell must be parameters; a mistyped one is refused with the name that was meant.
    """
    own = stage_parameters(name)
    layers = given(namespace)
    for names in layers.values():
        for unknown in [n for n in names if n not in TABLE]:
            raise UserError(f"there is no parameter '{unknown}'{did_you_mean(unknown, own)} "
                            "(correct it, then run the parameters cell again)")
    values = {n: namespace[n] for names in layers.values() for n in names}
    settings = load(overrides=values, stage=name)
    chain = json.loads(os.environ.get(CHAIN, "{}"))
    for parameter, value in settings.plain().items():
        source = "default"
        if value != own[parameter].default:
            source = next((label for label in reversed(layers) if parameter in layers[label]), "default")
        settings.source[parameter] = chain.get("sources", {}).get(parameter, source)
    stage = Stage(name, settings, chain)
    print(f"{name}, seed {stage.seed}, on {stage.device} ({stage.device_name}), {counted(stage.threads, 'thread')}")
    _show(settings)
    if others := sorted(set(values) - set(own)):
        print(f"  left aside, as other notebooks' parameters: {', '.join(others)}")
    return stage


def _show(settings: Settings) -> None:
    """Every parameter and its source; in a notebook folded, those that were set in sight."""
    text = "\n".join("  " + line for line in settings.lines())
    if not in_kernel():
        print(text)
        return
    from IPython.display import display

    chosen = [f"{name}: {value}" for name, value in settings.plain().items() if settings.source[name] != "default"]
    head = escape(f"{len(settings.plain())} parameters, {len(chosen)} set: {', '.join(chosen) or 'none'}")
    folded = f"<details><summary>{head}</summary><pre>{escape(text)}</pre></details>"
    display({"text/plain": text, "text/html": folded}, raw=True)


class Stage:
    """An open stage: its parameters ``p``, ``seed``, ``device``, ``folder``, and what it registers."""

    def __init__(self, name: str, settings: Settings, chain: dict[str, Any] | None = None):
        self.name, self.p = name, settings
        self.seed: int = settings.seed
        self.root = provenance.repository_root()
        run = Path(settings.run).expanduser()
        self.run = run if run.is_absolute() else self.root / run
        self.folder = self.run / name
        self._chain = chain or {}
        self._clock, self._started = time.monotonic(), provenance.now()
        self._entries: dict[str, list[dict[str, Any]]] = {k: [] for k in ("figures", "tables", "numbers", "claims")}
        self._products: list[Path] = []
        self._device: Any = None
        self._parts: dict[str, Any] = {}
        self.threads = set_threads(settings.get("threads", 0))
        if "key" not in self._chain:
            self._parts = keys.begin_by_hand(self.root, self.run, name, settings, self.threads)
        # An earlier attempt with the same key left this: work that it finished is not done again, and reads nothing.
        settings.log = self.folder / READ
        if settings.log.exists():
            settings.read |= set(settings.log.read_text(encoding="utf-8").split())
        seed_everything(self.seed)

    @property
    def device(self) -> Any:
        """torch.device; ``auto`` is the first GPU where there is one."""
        if self._device is None:
            from gmiqa.torch_engine import device_of

            self._device = device_of(self.p.device)
        return self._device

    @property
    def device_name(self) -> str:
        return provenance.device_name(str(self.device))

    def upstream(self, name: str) -> Path:
        """The folder of the finished stage ``name`` of this run, or a UserError that says what to run."""
        if name not in STAGES:
            raise UserError(f"upstream: no stage '{name}'{did_you_mean(name, STAGES)}")
        folder = self.run / name
        if provenance.record(folder) is None:
            raise UserError(
                f"{self.name} needs {name}, which is not finished in {self._shown(self.run)}: run "
                f"notebooks/{name}.ipynb with run=\"{self.p.run}\" first, or the chain: "
                f"gmiqa run params/quick.yaml")
        return folder

    def figure(self, figure: Any, name: str, caption: str, alt: str = "") -> None:
        """Save as name.svg and name.png, show it, and put it in the report; ``alt`` says it to who cannot see it."""
        import matplotlib.pyplot as plt

        from gmiqa.figures.style import save
        self._check(name, "figures")
        svg, png = save(figure, self.folder, name)
        plt.close(figure)
        self._products += [svg, png]
        self._entries["figures"].append({"name": name, "caption": caption, "alt": alt or caption,
                                         "svg": svg.name, "png": png.name})
        if in_kernel():
            from IPython.display import Image, display
            display(Image(filename=str(png), alt=alt or caption, width=shown_width(png)))

    def table(self, table: Any, name: str, caption: str) -> None:
        """Save a table (``saved_table.save_table`` says how), show it, put it in the report."""
        self._check(name, "tables")
        files, entry, shown = save_table(table, self.folder, name, caption)
        self._products += files
        self._entries["tables"].append(entry)
        if in_kernel():
            from IPython.display import display
            display(shown)

    def number(self, name: str, value: float | str, n: int | None = None, low: float | None = None,
               high: float | None = None, unit: str = "", text: str = "") -> None:
        """A headline number with the count it stands on; ``text`` is one sentence that says what it means."""
        self._check(name, "numbers")
        self._entries["numbers"].append({"name": name, "value": plain(value), "n": plain(n), "low": plain(low),
                                         "high": plain(high), "unit": unit, "text": text})
        interval = f" [{low:.3g}, {high:.3g}]" if low is not None and high is not None else ""
        count = f" (n = {n})" if n is not None else ""
        shown = f"{value:.4g}" if isinstance(plain(value), float) else value
        print(f"{name}: {shown}{interval}{' ' + unit if unit else ''}{count}{'. ' + text if text else ''}")

    def claim(self, claim: str, source: str, value: Any = None, outcome: str = "not run here", n: int | None = None,
              evidence: str = "", *, margin: float | None = None, family: str = "", unit: str = "",
              runs: int | None = None, p: float | None = None, low: float | None = None, high: float | None = None
              ) -> None:
        """A claim of the ``paper`` or of ``ours``, our value, and whether it holds at this size.

        ``n`` counts independent things, ``unit`` names them, ``runs`` counts the trainings behind each; ``low`` and
        ``high`` bound the 95 % interval. ``margin`` is the smallest difference that matters. The report corrects the
        claims of one ``family`` together, by their p values.
        """
        if outcome not in OUTCOMES:
            raise UserError(f"claim: outcome '{outcome}' is not one of {', '.join(OUTCOMES)}")
        if source not in ("paper", "ours"):
            raise UserError(f"claim: source '{source}' is neither paper nor ours")
        if outcome == "no difference" and margin is None:
            raise UserError("claim: 'no difference' needs the margin that it was judged by; pass margin=...")
        entry = {"claim": claim, "source": source, "value": value, "outcome": outcome, "n": n, "evidence": evidence,
                 "margin": margin, "family": family, "unit": unit, "runs": runs, "p": p, "low": low, "high": high}
        # A cell run twice in JupyterLab replaces its claim.
        others = [old for old in self._entries["claims"] if old["claim"] != claim]
        self._entries["claims"] = [*others, {name: plain(v) for name, v in entry.items()}]
        print(f"{outcome}: {claim}" + (f" ({value})" if value is not None else ""))

    @property
    def registered(self) -> dict[str, list[dict[str, Any]]]:
        """Figures, tables, numbers and claims so far."""
        return {kind: list(entries) for kind, entries in self._entries.items()}

    def product(self, path: Path | str) -> None:
        """Any other file of this stage, a checkpoint for example."""
        path = Path(path)
        path = path if path.is_absolute() else self.folder / path
        if not path.is_file():
            raise UserError(f"product: {path} is not there")
        self._products.append(path)

    def close(self) -> None:
        """Write the record. In the chain it becomes run.json once the executed notebook is saved."""
        self._refuse_unread()
        modules = keys.loaded()
        content = {
            "status": "done", "stage": self.name, "by": "chain" if "key" in self._chain else "hand",
            "parameters": {n: {"value": v, "source": self.p.source[n]} for n, v in self.p.plain().items()},
            "seed": self.seed, "threads": self.threads, "device": str(self.device), "device_name": self.device_name,
            **provenance.commit(self.root), **provenance.environment(),
            "started": self._started, "finished": provenance.now(),
            "seconds": round(time.monotonic() - self._clock, 2), "cpu_seconds": provenance.cpu_seconds(),
            "peak_memory": provenance.peak_memory(),
            "peak_gpu_memory": self._peak_gpu(), **self._entries,
            "products": provenance.products(self.folder, list(dict.fromkeys(self._products))),
            **({"parts": keys.narrowed(self._parts, modules)} if self._parts else {"modules": modules}),
        }
        provenance.write_json(self.folder / (CLOSED if "key" in self._chain else provenance.RECORD), content)
        print(f"{self.name} is done: {len(self._entries['figures'])} figures, {len(self._entries['tables'])} tables, "
              f"{content['seconds']:.0f} s ({content['cpu_seconds']:.0f} s of processor), "
              f"{content['peak_memory'] / 2**20:.0f} MB; {self._shown(self.folder)}")

    def _refuse_unread(self) -> None:
        """Refuse declared parameters that no cell has read: one that changes nothing would mislead whoever sets it."""
        if unread := self.p.unread(stage_parameters(self.name)):
            raise UserError(
                f"{self.name} declares {', '.join(unread)}, but no cell has read this: run all cells above. If none of "
                f"them uses it, take {self.name} out of its stages in gmiqa/settings/table.py and renew the parameters "
                "cell with python -m gmiqa.settings --write; if it matters only under a condition, state that there "
                "as only_if")

    def _peak_gpu(self) -> int | None:
        import torch
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None

    def _check(self, name: str, kind: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise UserError(f"{kind}: '{name}' is no name for a file; use letters, digits, _ and -")
        if any(entry["name"] == name for entry in self._entries[kind]):
            # A cell run twice in JupyterLab replaces what it registered.
            self._entries[kind] = [entry for entry in self._entries[kind] if entry["name"] != name]

    def _shown(self, path: Path) -> str:
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)
