"""Ablations: every row is an overlay file of params/ablations over the very recipes of notebooks 20, 30 and 40.

All rows are fine-tuned in the same way, on the same pictures. Only what is written in a row's file differs.
`ablation_share` shortens all trainings by the same share. A row without a pre-training costs less, so the control rows
spend the same computing on plain regression: a gain must not just be more training.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gmiqa import recipes
from gmiqa.data.pictures import Pictures
from gmiqa.data.synthetic import Pool, RecordPool
from gmiqa.evaluate.comparison import compare, repeated
from gmiqa.evaluate.protocols import independent
from gmiqa.experiments.ablation_rows import CELLS, FACTORS, FOLDER, Row, with_and_without
from gmiqa.experiments.ablation_rows import CLAIMS as CLAIMS
from gmiqa.experiments.ablation_rows import ROWS as ROWS
from gmiqa.experiments.ablation_rows import rows as rows
from gmiqa.settings import Settings
from gmiqa_core import prediction

APART, SEED_ZERO = 10_000, 5_000  # pool steps between the seeds' draws; where seed 0 stands among them


def settings_of(row: Row, p: Settings, labelled: int = 0) -> Settings:
    """The run's settings with the row's file laid over them, every training shortened to `ablation_share`.

    labelled    pictures that fine-tuning learns from, which its epochs count
    """
    q = p.overlaid(FOLDER / f"{row.file}.yaml")
    steps = {"meta_steps": q.meta_steps, "graph_steps": q.graph_steps,
             "finetune_steps": recipes.finetune_steps(q, labelled)}
    shorter = {name: max(1, round(q.ablation_share * value)) if value else 0 for name, value in steps.items()}
    return q.replaced("ablation_share", finetune_epochs=0, precision="fp32", **shorter)


def plan(chosen: Sequence[Row], p: Settings, labelled: int = 0) -> pd.DataFrame:
    """What every row trains: steps of each stage, and the pixels that pass the network forward and backward."""
    lines = []
    for row in chosen:
        q = settings_of(row, p, labelled)
        drawn = q.meta_tasks * (q.meta_support + q.meta_query)
        graph = 3 * max(1, q.graph_batch // max(q.graph_sizes)) * max(q.graph_sizes) + q.graph_mixed
        pixels = (q.meta_steps * drawn * q.meta_crop**2 + q.graph_steps * graph * q.graph_crop**2
                  + q.finetune_steps * q.finetune_batch * (q.finetune_crop or q.max_side) ** 2)
        lines.append({"row": row.name, "overlay": f"params/ablations/{row.file}.yaml", "meta": q.meta_steps,
                      "graph": q.graph_steps, "plain": ", ".join(q.ablation_plain), "fine-tuning": q.finetune_steps,
                      "million pixels": pixels / 1e6})
    return pd.DataFrame(lines)


@dataclass
class Bench:
    """What all rows share: references, the target set, the pictures to test on, pools, the device."""

    references: recipes.References
    scored: recipes.TargetSet
    test: Pictures
    device: Any
    pools: dict[str, Pool]

    @property
    def content(self) -> np.ndarray:
        return independent(self.test.facts)

    @property
    def target(self) -> np.ndarray:
        return self.test.quality.numpy().astype(float)

    def pool(self, kind: str, make: Any) -> Pool:
        """One pool for all rows with the same pictures: the content of a slot depends on nothing else."""
        if kind not in self.pools:
            self.pools[kind] = make()
        return self.pools[kind]


def bench(p: Settings, device: Any = "cpu") -> Bench:
    """The target of notebook 40, and `ablation_pictures` of its test pictures, evenly over all of them."""
    references = recipes.references(p)
    scored = recipes.target(p, references, p.ablation_pictures)
    return Bench(references, scored, scored.test, device, {})


def beginning(p: Settings, seed: int) -> int:
    """The pool step at which a seed's draws begin: behind those of all smaller seeds. Seed 0 begins far out as well,
    because a pool's first steps draw from the few pictures that it has by then."""
    steps = max(p.meta_steps * p.meta_tasks, p.graph_steps * p.graph_batch)
    return (seed or SEED_ZERO) * max(1, -(-steps // APART)) * APART


class Draws:
    """A pool that begins `by` steps later: each seed draws other pictures, and they are the same in every row."""

    def __init__(self, pool: Pool | RecordPool, by: int):
        self.pool, self.by, self.types = pool, by, pool.types

    def identity(self) -> dict[str, Any]:
        return {**self.pool.identity(), "by": self.by}

    def batch(self, step: int, n: int) -> Any:
        return self.pool.batch(step + self.by, n)

    def triplet(self, step: int, n: int) -> Any:
        return self.pool.triplet(step + self.by, n)

    def task(self, step: int, type: int, support: int, query: int) -> Any:
        return self.pool.task(step + self.by, type, support, query)


def train(row: Row, p: Settings, shared: Bench, seed: int, folder: Path) -> tuple[Any, dict[str, Any]]:
    """One row, one seed: its pre-trainings and fine-tuning, by the recipes -> network, and what it cost."""
    q, began = settings_of(row, p, len(shared.scored.train)), time.monotonic()
    learn = shared.references.train
    model = recipes.new_network(q, seed, shared.device)

    def drawn(kind: str, make: Any) -> Any:
        return Draws(shared.pool(f"{kind} {q.pool_shrink} {q.turn_crops}", make), beginning(p, seed))

    quiet: dict[str, Any] = {"seed": seed, "report": lambda *_: None}
    if q.meta_steps:
        pool = drawn("meta", lambda: recipes.meta_pool(q, learn, shared.device))
        trained, _ = recipes.meta_pretrain(q, model, pool, folder=folder / "meta",
                                           algorithm="plain" if "meta" in q.ablation_plain else "", **quiet)
        model = recipes.take_over(model, trained)
    if q.graph_steps:
        pool = drawn("graph", lambda: recipes.graph_pool(q, learn, shared.device))
        pretrain = recipes.plain_pretrain if "graph" in q.ablation_plain else recipes.graph_pretrain
        model, _ = pretrain(q, model, pool, folder / "graph", **quiet)
    pool = drawn("branches", lambda: recipes.branch_pool(q, learn, shared.device)) if q.synthetic_share else None
    model, _ = recipes.fine_tune(q, model, shared.scored, folder / "finetune", pool=pool, **quiet)
    return model, {"row": row.name, "seed": seed, "seconds": time.monotonic() - began,
                   "parameters": sum(weight.numel() for weight in model.parameters())}


def predict(row: Row, p: Settings, model: Any, shared: Bench) -> np.ndarray:
    """Quality (n,) of the test pictures, seen as notebook 40 sees them."""
    seen = prediction.as_tuned(recipes.facts(settings_of(row, p)))
    return prediction.predict(model, shared.test.pictures, **seen).mu


def run(row: Row, p: Settings, shared: Bench, seed: int, folder: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Train and predict on one thread, so that one kind of machine gives the same numbers. What is finished in
    `folder` is read, not repeated."""
    kept = folder / "predictions.npy"
    cost = {"row": row.name, "seed": seed, "seconds": np.nan, "parameters": np.nan}
    if kept.is_file() and len(values := np.load(kept)) == len(shared.test):
        return values, cost
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, cost = train(row, p, shared, seed, folder)
        values = predict(row, p, model, shared)
    finally:
        torch.set_num_threads(threads)
    np.save(kept, values)
    return values, cost


def table(predictions: dict[str, np.ndarray], shared: Bench, chosen: Sequence[Row], p: Settings,
          margin: float) -> pd.DataFrame:
    """Predictions (seeds, n) per row -> SROCC and PLCC with intervals, and the paired outcome against another row."""
    rest: dict[str, Any] = {"groups": shared.content, "bootstrap": p.bootstrap, "seed": p.seed}
    result = []
    for row in chosen:
        line: dict[str, Any] = {"row": row.name, "title": row.title, "part": row.part}
        for metric in ("srocc", "plcc"):
            value = repeated(predictions[row.name], shared.target, metric, **rest)
            line |= {metric: value["value"], f"{metric}_low": value["low"], f"{metric}_high": value["high"],
                     "n": value["n"]}
        if row.against in predictions:
            pair = (predictions[row.name], predictions[row.against])
            against = compare(*pair, shared.target, "srocc", margin=margin, **rest)
            line |= {"against": row.against, "delta": against.delta, "delta_low": against.low,
                     "delta_high": against.high, "outcome": against.outcome, "comparison": against,
                     "sentence": against.sentence(row.name, row.against)}
        result.append(line)
    return pd.DataFrame(result)


def main_effects(predictions: dict[str, np.ndarray], shared: Bench, p: Settings, margin: float) -> dict[str, Any]:
    """What SC, Meta and DGR are each worth over the whole factorial: the rows that have it against those that do not,
    paired by seed and by the other two. Empty where a row of the factorial is missing."""
    if not set(CELLS) <= set(predictions):
        return {}
    effects = {}
    for factor in FACTORS:
        # seeds are runs, the four pairs are not
        having, lacking = (np.stack([predictions[name] for name in names]) for names in with_and_without(factor))
        effects[factor] = compare(having, lacking, shared.target, "srocc", shared.content, p.bootstrap, p.seed,
                                  margin=margin)
    return effects
