"""Every baseline on one data set with an official split: SROCC and PLCC with 95 % intervals, overall and per subset.

    python -m benchmarks.baselines /data/biq2021 index.csv --image file --score mos --group group --subset subset \
        --split split --methods mean subset brisque_svr nss_svr

Intervals come from resampling whole scene groups. "subset" is no method: it knows only which part of the set a picture
belongs to, and shows what that alone is worth.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import pandas as pd

from gmiqa import baselines
from gmiqa.data import datasets
from gmiqa.evaluate import metrics
from gmiqa.evaluate.protocols import units
from gmiqa.runs import progress
from gmiqa_core.errors import UserError

QUICK = ("mean", "subset", "file_size", "brightness", "sharpness", "brisque_svr", "nss_svr")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("csv")
    for name, default in (("image", "file"), ("score", "mos"), ("group", ""), ("subset", ""), ("split", "split")):
        parser.add_argument(f"--{name}", default=default, help=f"column (default: {default or 'none'})")
    parser.add_argument("--low", type=float, default=0.0)
    parser.add_argument("--high", type=float, default=1.0)
    parser.add_argument("--methods", nargs="+", default=QUICK,
                        help=f"of {', '.join(('subset', *baselines.NAMES, *baselines.FOREIGN))}")
    parser.add_argument("--limit", type=int, default=0, help="train on so many pictures, drawn at random; 0: all")
    parser.add_argument("--steps", type=int, default=1500, help="training steps of cnniqa and resnet")
    parser.add_argument("--max-side", type=int, default=512, help="longer pictures are shrunk to this first")
    parser.add_argument("--cache", default=None, help="folder that keeps the features")
    parser.add_argument("--bootstrap", type=int, default=1000)
    args = parser.parse_args()

    columns = {name: getattr(args, name) for name in ("image", "score", "group", "subset", "split")}
    dataset = datasets.load("folder", args.folder, csv=args.csv, low=args.low, high=args.high, **columns)
    part = datasets.split(dataset, "official", validation=0)
    chosen = np.random.default_rng(0).permutation(part.train)[: args.limit] if args.limit else part.train
    train, test = dataset.table.iloc[np.sort(chosen)], dataset.table.iloc[part.test]
    print(f"{dataset.title} in {args.folder}: {len(train):,} training and {len(test):,} test pictures", flush=True)

    rows = []
    for name in args.methods:
        start = time.perf_counter()
        title, prediction = _subset(train, test) if name == "subset" else _method(name, train, test, args)
        seconds = time.perf_counter() - start
        for subset in ["all", *sorted(set(test["subset"]) - {""})]:
            here = np.ones(len(test), bool) if subset == "all" else (test["subset"] == subset).to_numpy()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # constants are NaN, and the table shows it
                values = metrics(prediction[here], test["quality"][here], units(test[here]), args.bootstrap)
            rows.append(
                {
                    "method": title,
                    "subset": subset,
                    "n": int(here.sum()),
                    **{metric: _text(values.loc[metric]) for metric in ("srocc", "plcc")},
                    "seconds": f"{seconds:.0f}",
                }
            )
        print(pd.DataFrame(rows[-4:]).to_string(index=False, header=len(rows) <= 4), flush=True)


def _method(name: str, train: pd.DataFrame, test: pd.DataFrame, args: argparse.Namespace) -> tuple[str, np.ndarray]:
    steps = {"steps": args.steps} if name in ("cnniqa", "resnet") else {}
    try:
        method = baselines.make(name, max_side=args.max_side, cache=args.cache, **steps)
    except UserError as error:
        raise SystemExit(str(error)) from None
    features = getattr(method, "features", None)
    if features and args.cache:  # show how far it is: the features are most of the time
        everything = [*train["image"], *test["image"]]
        baselines.matrix(everything, features, args.max_side, args.cache,
                         progress=lambda x, n: progress(x, n, f"{name} features"))  # fmt: skip
    method.fit(train["image"].tolist(), train["quality"])
    return method.title, method.predict(test["image"].tolist())


def _subset(train: pd.DataFrame, test: pd.DataFrame) -> tuple[str, np.ndarray]:
    means = train.groupby("subset")["quality"].mean()
    return "(knowing only the subset)", test["subset"].map(means).to_numpy(float)


def _text(row: pd.Series) -> str:
    return "" if row["value"] != row["value"] else f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


if __name__ == "__main__":
    main()
