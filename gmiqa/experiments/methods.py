"""Every method on the same test pictures: which ones, synthetic or of a data set, and how a method is run on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from gmiqa import baselines, recipes
from gmiqa.data import cells, datasets, images
from gmiqa.data.distortions import TYPES
from gmiqa.data.images import Decoded
from gmiqa.data.pictures import Pictures
from gmiqa.evaluate import protocols, reported
from gmiqa_core import prediction
from gmiqa_core.errors import UserError

NETWORK = "GMIQA"


@dataclass(frozen=True)
class Tuned:
    """The network of notebook 40: how it sees pictures, and its predictions on its own test part."""

    model: Any
    seen: dict[str, Any]
    max_side: int
    predictions: Path

    def scores(self, pictures: Iterable[Any]) -> Any:
        """Quality of pictures of any kind."""
        return prediction.predict(self.model, Decoded(list(pictures), self.max_side), **self.seen).mu


@dataclass(frozen=True)
class OnSynthetic:
    """KADID-calibrated pictures of references that no training saw; baselines learn on the network's references."""

    test: Pictures
    learn: Pictures
    pristine: list[Tensor]  # of the contents to learn from
    title: str = "KADID-calibrated scores"
    key: str = "picture"
    rule: str = "last step"
    human: bool = False

    def __str__(self) -> str:
        counts = self.test.facts.groupby("part")["content"].nunique()
        parts = ", ".join(f"{part} {n}" for part, n in counts.items())
        return (f"{len(self.test)} test pictures of unseen contents ({parts}); baselines learn from {len(self.learn)} "
                f"pictures of {self.learn.facts['content'].nunique()} other contents")

    def network(self, tuned: Tuned) -> pd.DataFrame:
        return self._judged(tuned.scores(self.test.pictures))

    def baseline(self, name: str, max_side: int) -> tuple[str, pd.DataFrame]:
        made = baselines.make(name, max_side=max_side, pristine=self.pristine)
        fitted = made.fit(self.learn.pictures, self.learn.facts["target"])
        return fitted.title, self._judged(fitted.predict(self.test.pictures))

    def _judged(self, values: Any) -> pd.DataFrame:
        facts = self.test.facts
        return facts.assign(prediction=values, fold="unseen contents", reference=facts["name"],
                            type_title=[TYPES[t - 1].title for t in facts["type"]])

    def picture(self, key: Any) -> Tensor:
        return self.test.pictures[key]


@dataclass(frozen=True)
class OnDataset:
    """The folds of a protocol on a data set, or the whole of another one."""

    dataset: datasets.Dataset
    other: datasets.Dataset | None
    protocol: str
    split: str
    folds: list[protocols.Fold]
    title: str
    key: str = "id"
    rule: str = "step chosen on the validation part"
    human: bool = True

    def __str__(self) -> str:
        return f"{self.dataset.title}, protocol {self.protocol}: " + ", ".join(
            f"{fold.name} tests {len(fold.test)}" for fold in self.folds)

    def network(self, tuned: Tuned) -> pd.DataFrame:
        if self.other is not None:
            table = self.other.table
            return self._named(table.assign(fold=self.folds[0].name, target=table["quality"],
                                            prediction=tuned.scores(table["image"])))
        if self.protocol == "leave_subset_out":
            raise UserError("its fine-tuning saw pictures of every subset")
        table = pd.read_csv(tuned.predictions, keep_default_na=False)
        table = table.rename(columns={"quality": "target", "mu": "prediction"})
        return self._named(table.assign(fold=protocols.fold_name(self.split)))

    def baseline(self, name: str, max_side: int) -> tuple[str, pd.DataFrame]:
        made = partial(baselines.make, name, max_side=max_side)
        title = made().title
        return title, self._named(protocols.run(made, self.folds, title))

    def _named(self, scored: pd.DataFrame) -> pd.DataFrame:
        records = (self.other or self.dataset).table
        rows = dict(zip(records["id"], records.index, strict=True))
        kinds = scored["type"].astype(str) if "type" in scored else ""
        subset = scored["subset"] if "subset" in scored else pd.Series("", scored.index)
        return scored.assign(picture=scored["id"].map(rows), name=scored["id"], type_title=kinds,
                             part=subset.fillna("").replace("", self.title))

    def picture(self, key: Any) -> Tensor:
        return images.read((self.other or self.dataset).table["image"].loc[key])


def question(p: Any) -> OnSynthetic | OnDataset:
    """On which pictures the methods are compared, of the settings of notebook 50."""
    if p.dataset == "synthetic":
        pristine = recipes.references(p)
        test = cells.every(cells.both_kinds(pristine.test, p.evaluate_contents), p.evaluate_levels, seed=p.seed)
        learn = cells.about(pristine.train, p.evaluate_labels, seed=p.seed)
        return OnSynthetic(test, learn, [content.image for content in pristine.train])
    dataset = datasets.from_parameters(p)
    other = datasets.load(p.other_dataset, p.other_path) if p.protocol == "cross" else None
    title = reported.DATASETS.get(dataset.name, dataset.title)
    title = title if other is None else f"{other.title}, trained on {title}"
    folds = protocols.folds(dataset, p.protocol, p.splits, other, tuned_on=p.split)
    return OnDataset(dataset, other, p.protocol, p.split, folds, title)


def run(asked: OnSynthetic | OnDataset, tuned: Tuned, names: Iterable[str],
        say: Callable[[str], None] = print) -> tuple[pd.DataFrame, dict[str, float]]:
    """The network and these baselines on the same pictures: predictions, and each method's milliseconds a picture.

    A method that is not at hand is named with its reason and left out.
    """
    results, milliseconds = [], {}
    for name in names:
        started = time.perf_counter()
        try:
            label, scored = (name, asked.network(tuned)) if name == NETWORK else (
                asked.baseline(name, tuned.max_side))
        except UserError as error:
            say(f"{name} is left out: {error}")
            continue
        milliseconds[label] = 1000 * (time.perf_counter() - started) / len(scored)
        results.append(scored.assign(method=label))
    return pd.concat(results, ignore_index=True), milliseconds
