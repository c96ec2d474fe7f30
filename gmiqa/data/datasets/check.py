"""One page about a download: whether it is complete, what is wrong, and what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gmiqa.data import images
from gmiqa.data.datasets.records import Dataset, DatasetError, Finding
from gmiqa.data.datasets.splits import split

SHOWN = 5  # names of broken images that are spelled out


@dataclass(frozen=True)
class Report:
    """`ok`: the data set can be used; `complete`: nothing at all is wrong; `text`: the page."""

    ok: bool
    complete: bool
    text: str
    findings: tuple[Finding, ...] = ()


def check(
    name: str, path: str | Path, decode: bool = True, progress: Callable[[Iterable, int], Iterable] | None = None,
    **options: Any,
) -> Report:  # fmt: skip
    """Look through a download -> Report.

    decode    decode every image in full (False: look at the headers only)
    progress  wraps the loop over the images: progress(iterable, total)
    options   the family's own, as in `load`
    """
    from gmiqa.data.datasets import family, inspected

    known = family(name)
    try:
        dataset, there, findings = inspected(name, path, **options)
    except DatasetError as error:
        findings = [Finding(str(error))]
        return Report(False, False, _page(f"{known.title} in {path}", [], findings), tuple(findings))
    paths = dataset.table["image"][there].tolist()
    sizes, broken = _opened(paths, decode, progress)
    if broken:
        first = "; ".join(broken[:SHOWN])
        findings.append(Finding(f"{len(broken):,} of {len(paths):,} images are damaged: {first}"))
    ok = not any(finding.fatal for finding in findings)
    text = _page(f"{dataset.title} in {path}", _facts(dataset, there, sizes, known.source), findings)
    return Report(ok, not findings, text, tuple(findings))


def _opened(paths: list[str], decode: bool, progress: Callable | None) -> tuple[Counter, list[str]]:
    def one(path: str) -> tuple[tuple[int, int] | None, str]:
        try:
            if not decode:
                return images.size(path), ""
            height, width = images.read(path).shape[1:]
            return (width, height), ""
        except images.ImageError as error:
            return None, str(error)

    with ThreadPoolExecutor(4) as pool:
        results = pool.map(one, paths)
        seen = list(progress(results, len(paths)) if progress else results)
    return Counter(size for size, _ in seen if size), [reason for _, reason in seen if reason]


def _facts(dataset: Dataset, there: np.ndarray, sizes: Counter, source: str) -> list[tuple[str, str]]:
    table = dataset.table
    facts = [("source", source), ("records", f"{len(table):,} in {dataset.scores_file}")]
    facts.append(("images", f"{there.sum():,} of {len(table):,} found" + (f", {_sizes(sizes)}" if sizes else "")))
    if len(table):
        low, high = table["score"].min(), table["score"].max()
        facts.append(("scores", f"{low:.4g} to {high:.4g}; declared {dataset.scale}"))
        spread = table["spread"].median()
        facts.append(("spread", f"{spread:.3g} (median standard deviation)" if spread == spread else "not given"))
    for column in ("reference", "group", "subset", "type"):
        values = table[column][table[column] != ""]
        if len(values):
            names = sorted(values.unique())
            few = f": {', '.join(names)}" if len(names) <= 8 else ""
            facts.append((f"{column}s", f"{len(names):,}{few}"))
    facts.append(("split unit", dataset.unit))
    for which in ("official", 0):
        try:
            part = split(dataset, which)
        except DatasetError as error:
            facts.append((f"split {which}", f"none ({error})" if which == 0 else "none by the authors"))
            continue
        facts.append((f"split {which}", f"train {len(part.train):,}, validation {len(part.validation):,}, "
                                        f"test {len(part.test):,}"))  # fmt: skip
    facts += [("note", note) for note in dataset.notes]
    return [(label, text) for label, text in facts if text]


def _sizes(sizes: Counter) -> str:
    (width, height), most = sizes.most_common(1)[0]
    if len(sizes) == 1:
        return f"all {width} x {height}"
    return f"{len(sizes)} sizes, {most:,} of them {width} x {height}"


def _page(title: str, facts: list[tuple[str, str]], findings: list[Finding]) -> str:
    lines = [title, *(f"  {label:<11} {text}" for label, text in facts)]
    lines += [f"  {'WRONG' if finding.fatal else 'differs':<11} {finding.text}" for finding in findings]
    if any(finding.fatal for finding in findings):
        lines.append("It cannot be used as it is.")
    elif findings:
        lines.append("It can be used, but is not what the authors distribute.")
    else:
        lines.append("It is complete.")
    return "\n".join(lines)
