"""A checkpoint on contents that it never saw: 25 types x 5 levels, their KADID-calibrated scores and their names.

    python -m benchmarks.unseen outputs/cpu/40_fine_tuning/finetuned.safetensors /data/kodak
    python -m benchmarks.unseen CHECKPOINT                 # on the embedded contents

The interval is over contents; the type of a graph of N pictures is that of its nearest neighbour among other contents.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import pandas as pd
import torch

from gmiqa.data import synthetic
from gmiqa.data.pictures import Pictures
from gmiqa.evaluate import metrics
from gmiqa.experiments.graph_probe import all_nodes, probe
from gmiqa_core import checkpoints, prediction


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("folder", nargs="?", default="embedded", help="pristine pictures (default: the embedded ones)")
    parser.add_argument("--contents", type=int, default=24, help="at most so many of them")
    parser.add_argument("--side", type=int, default=0, help="longer side to shrink to (default: the checkpoint's)")
    parser.add_argument("--views", type=int, help="crops to average, 0: the whole picture (default: the checkpoint)")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 16])
    args = parser.parse_args()
    model, facts = checkpoints.load(args.checkpoint, "cpu")
    contents = synthetic.references(args.folder, limit=args.contents)
    side = args.side or int(facts.get("max_side") or 512)
    how = prediction.as_tuned(facts if args.views is None else {**facts, "views": args.views})

    V, batches, rows = [], [], []
    for batch in synthetic.test_batches(contents, max_side=side):
        made = Pictures.of_batch(batch)
        rows.append(made.facts.assign(**vars(prediction.predict(model, made.pictures, **how)))
                    .assign(quality=made.quality.numpy(), content=int(batch.content[0])))
        V.append(all_nodes(model, batch.images, chunk=8))
        batches.append(replace(batch, images=batch.images[..., :1, :1].clone()))  # the probe has the nodes
    frame = pd.concat(rows, ignore_index=True)
    table = metrics(frame["mu"], frame["quality"], frame["content"].to_numpy(), 1000, 0)
    print(f"{args.checkpoint}: {len(contents)} contents of {args.folder}, {len(frame):,} pictures, side {side}, "
          + (f"mean of {how['crops']} crops of {how['crop']}" if how["crops"] else "whole"))
    print(table.round(3).to_string())
    by_type = frame.groupby("type").apply(lambda g: pd.Series({
        "srocc within the type": g["mu"].corr(g["quality"], method="spearman"),
        "mean error": float((g["mu"] - g["quality"]).abs().mean())}), include_groups=False)
    print(by_type.sort_values("mean error").round(3).to_string())
    mean = frame.groupby(["type", "level"])[["mu", "quality"]].mean()
    order = mean.groupby(level="type").apply(lambda g: g["mu"].corr(g["quality"], method="spearman"))
    print(f"types whose mean score follows the levels (rank correlation at least 0.9): {(order >= 0.9).sum()} of 25")
    summary = probe(model, synthetic.Batch.cat(batches), args.nodes, V=torch.cat(V)).summary()
    print(summary.round(3).to_string())


if __name__ == "__main__":
    main()
