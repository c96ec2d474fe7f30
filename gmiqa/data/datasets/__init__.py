"""Data sets in the layouts of their authors -> one table of records with declared range and direction; splits.

dataset = datasets.load("koniq10k", "/data/koniq10k")
part = datasets.split(dataset, 0)                       # 0..9, or "official"
dataset.table.iloc[part.train]                          # image, reference, group, ..., score, quality
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from gmiqa.data.datasets.check import Report, check
from gmiqa.data.datasets.normalise import finished
from gmiqa.data.datasets.records import Dataset, DatasetError, Family, Finding, Scale
from gmiqa.data.datasets.splits import STORED, Split, split
from gmiqa_core.errors import did_you_mean

NAMES = ("kadid10k", "koniq10k", "livec", "csiq", "live", "biq2021", "tid2013", "spaq", "folder")

__all__ = ["NAMES", "STORED", "Dataset", "DatasetError", "Report", "Scale", "Split", "check", "family",
           "from_parameters", "inspected", "load", "split"]  # fmt: skip


def load(name: str, path: str | Path, missing: str = "refuse", **options: Any) -> Dataset:
    """Read a data set from its folder. Before any work is done, a DatasetError lists everything that is wrong.

    missing  "refuse", "drop" (use the records whose image is there) or "keep" (scores without images)
    options  the family's own: `load("folder", path, csv=..., image=..., score=..., low=..., high=...)`, ...
    """
    if missing not in ("refuse", "drop", "keep"):
        raise DatasetError(f"missing = {missing!r}: expected refuse, drop or keep")
    dataset, there, findings = inspected(name, path, **options)
    if missing != "refuse":
        findings = [finding for finding in findings if not finding.images]
        dataset = dataset if missing == "keep" else dataset.drop(there)
    fatal = [finding.text for finding in findings if finding.fatal]
    if fatal:
        raise DatasetError(f"{dataset.title} in {path} cannot be used: " + "; ".join(fatal))
    if not len(dataset):
        raise DatasetError(f"{dataset.title} in {path} cannot be used: none of its images is there")
    return dataset


def from_parameters(p: Any) -> Dataset:
    """The data set that a run's parameters name: dataset, dataset_path and, for a folder, csv_* and score_*."""
    if p.dataset != "folder":
        return load(p.dataset, p.dataset_path)
    columns = {role: getattr(p, f"csv_{role}") for role in ("image", "score", "reference", "group", "subset", "split")}
    scale = {"low": p.score_low, "high": p.score_high, "higher_is_better": p.score_rises}
    return load("folder", p.dataset_path, csv=p.csv, **columns, **scale)


def inspected(name: str, path: str | Path, **options: Any) -> tuple[Dataset, np.ndarray, list[Finding]]:
    """The data set as it is, which of its images exist, and what is wrong with it."""
    known = family(name)
    root = Path(path).expanduser().absolute()
    if not str(path) or not root.is_dir():
        fetch = f"; `gmiqa data get biq2021 {path}` fetches it" if known.name == "biq2021" else ""
        raise DatasetError(f"no folder {str(path) or '(empty)'}: expected the unpacked {known.title}{fetch}")
    allowed = list(known.options or list(inspect.signature(known.read).parameters)[1:])
    for option in options:
        if option not in allowed:
            takes = f"takes {', '.join(allowed)}" if allowed else "takes no options"
            raise DatasetError(f"{known.name} has no option {option!r}; it {takes}{did_you_mean(option, allowed)}")
    return finished(known, root, known.read(root, **options))


def family(name: str) -> Family:
    """What is known about a data set by its name."""
    key = name.strip().lower().replace("-", "").replace("_", "")
    if key not in NAMES:
        raise DatasetError(f"there is no data set {name!r}{did_you_mean(name, NAMES)}; there are {', '.join(NAMES)}")
    return import_module(f"gmiqa.data.datasets.{key}").FAMILY
