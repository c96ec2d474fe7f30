"""Tables of benchmarks.metaqap, from the predictions that its members have written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from gmiqa.data.pictures import Pictures
from gmiqa.evaluate import compare, metrics, srocc
from gmiqa.evaluate.protocols import units
from gmiqa.experiments.stacking import Stack
from gmiqa_core.errors import UserError

WITHOUT_LOSS = "stack without the quality-aware loss"


def report(everything: pd.DataFrame, work: Path, members: Sequence[str], train: Pictures, test: Pictures,
           bootstrap: int) -> None:
    """Stack the members that are there, and print what they, the stack and its parts reach."""
    unseen, in_sample, tested = (wide(everything, part, column, pictures) for part, column, pictures in (
        ("train", "prediction", train), ("train", "in_sample", train), ("test", "prediction", test)))
    stacked = [name for name in members if name in unseen]
    if not stacked:
        raise UserError(f"no member has predictions in {work}: nothing to stack")
    y, truth = train.quality.numpy(), test.quality.numpy()
    stack, biased = Stack().fit(unseen[stacked], y), Stack().fit(in_sample[stacked], y)
    print(f"{stack.path_.to_string(index=False)}\nkept: { {k: round(v, 3) for k, v in stack.beta_.items()} }")
    mean = unseen[stacked].mean(axis=1).to_numpy(), tested[stacked].mean(axis=1).to_numpy()
    # of the training part: what a member says of pictures that it has not seen
    folded = {"stack": stack.predict(unseen), "mean of members": mean[0]} | {n: unseen[n].to_numpy() for n in unseen}
    final = {"stack": stack.predict(tested), "mean of members": mean[1]} | {n: tested[n].to_numpy() for n in tested}
    if plain := [name + "/mse" for name in stacked if name + "/mse" in unseen]:
        rest = [*plain, *(name for name in stacked if name + "/mse" not in plain)]
        without = Stack().fit(unseen[rest], y)
        folded[WITHOUT_LOSS], final[WITHOUT_LOSS] = without.predict(unseen), without.predict(tested)
    table = pd.concat([scored("out of fold, training part", folded, train, bootstrap),
                       scored("test", final, test, bootstrap)])
    table.to_csv(work / "table.csv", index=False)
    print(table.to_string(index=False), flush=True)
    best = max(stacked, key=lambda name: srocc(unseen[name].to_numpy(), y))
    switched = ((name.rsplit("/", 1)[0], name) for name in unseen if "/" in name)
    pairs = [("stack", best), ("stack", "mean of members"), ("stack", WITHOUT_LOSS), *switched]
    for where, by_name, pictures in (("out of fold", folded, train), ("test", final, test)):
        for a, b in pairs:
            if a in by_name and b in by_name:
                result = compare(by_name[a], by_name[b], pictures.quality.numpy(), "srocc", units(pictures.facts),
                                 bootstrap)
                print(f"- {where}: {result.sentence(a, b)}", flush=True)
    claims = {"in sample: fitted and judged on what the members saw": (biased.predict(in_sample[stacked]), y),
              "out of fold: fitted and judged on what they had not seen": (folded["stack"], y),
              "the in-sample stack on the test part": (biased.predict(tested[stacked]), truth),
              "the out-of-fold stack on the test part": (final["stack"], truth)}
    for name, (prediction, target) in claims.items():
        values = metrics(prediction, target, bootstrap=0, names=("srocc", "plcc"))["value"]
        print(f"{name}: SROCC {values['srocc']:.3f}, PLCC {values['plcc']:.3f}, n = {len(target):,}")


def gathered(work: Path) -> pd.DataFrame:
    """All predictions in the work folder, in one table that is written there, too: part, id, prediction, in_sample,
    member. Such a table of another machine can be laid into `predictions` as it is."""
    files = sorted((work / "predictions").glob("*.csv"))
    if not files:
        raise UserError(f"no member was fitted: {work / 'predictions'} is empty")
    table = pd.concat([pd.read_csv(file, dtype={"id": str}) for file in files])
    table = table.drop_duplicates(["member", "id", "part"])
    table.to_csv(work / "predictions.csv", index=False)
    return table


def wide(long: pd.DataFrame, part: str, column: str, pictures: Pictures) -> pd.DataFrame:
    """(pictures x members) of one part, in the order of the pictures; members with a gap are left out."""
    table = long[long.part == part].pivot(index="id", columns="member", values=column)
    return table.reindex(pictures.facts["id"].astype(str)).dropna(axis=1).reset_index(drop=True)


def scored(where: str, methods: dict[str, np.ndarray], pictures: Pictures, bootstrap: int) -> pd.DataFrame:
    """SROCC and PLCC with intervals, whole scenes resampled; SROCC of each subset."""
    truth, groups, rows = pictures.quality.numpy(), units(pictures.facts), []
    subset = pictures.facts["subset"].to_numpy() if "subset" in pictures.facts else np.full(len(truth), "")
    for name, prediction in methods.items():
        values = metrics(prediction, truth, groups, bootstrap, names=("srocc", "plcc"))
        row = {"where": where, "method": name}
        for metric in ("srocc", "plcc"):
            value = values.loc[metric]
            row[metric] = f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
        for which in np.unique(subset):
            here = subset == which
            row[str(which)] = f"{srocc(prediction[here], truth[here]):.3f}"
        rows.append(row)
    return pd.DataFrame(rows)
