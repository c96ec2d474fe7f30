"""Synthetic pictures to score, cell by cell: whole ones, with the KADID-calibrated quality of their type and level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from gmiqa.data.pictures import Pictures
from gmiqa.data.synthetic import test_batches

LEVELS = (1, 2, 3, 4, 5)
KINDS = {"photograph": "photographs", "generated": "generated scenes", "folder": "pictures of the folder"}


def about(contents: Sequence[Any], count: int, **options: Any) -> Pictures:
    """About `count` pictures, every type once on each of some contents with the levels in turn, then on more contents,
    then again at other levels; options of synthetic.test_batches (whole, crop, seed)."""
    rounds = range(min(len(LEVELS), max(1, round(count / (25 * len(contents))))))
    chosen = contents if len(contents) * 25 <= count else contents[: max(1, count // 25)]
    cells = [{level: [t for t in range(1, 26) if (t + k) % len(LEVELS) in [(place + r) % len(LEVELS) for r in rounds]]
              for place, level in enumerate(LEVELS)} for k in range(len(chosen))]  # fmt: skip
    return _made(chosen, cells, options)


def every(contents: Sequence[Any], levels: Sequence[int] = LEVELS, **options: Any) -> Pictures:
    """Every type at each of these levels on every content."""
    return _made(contents, [{level: list(range(1, 26)) for level in levels}] * len(contents), options)


def _made(contents: Sequence[Any], cells: list[dict[int, list[int]]], options: dict[str, Any]) -> Pictures:
    """facts: picture (its number), content, name, part, type, level, target in [0, 1]."""
    pictures, spreads, rows = [], [], []
    for number, (content, wanted) in enumerate(zip(contents, cells, strict=True)):
        for level, types in wanted.items():
            for batch in test_batches([content], types=types, levels=[level], **options) if types else ():
                pictures += list((batch.images * 255).round().byte().cpu())
                spreads.append(batch.spread.cpu())
                rows += [{"content": number, "name": content.name, "part": KINDS.get(content.kind, content.kind),
                          "type": int(t), "level": level, "target": float(q)}
                         for t, q in zip(batch.type, batch.quality, strict=True)]  # fmt: skip
    facts = pd.DataFrame(rows).rename_axis("picture").reset_index()
    return Pictures(pictures, torch.tensor(facts["target"].to_numpy("float32")), torch.cat(spreads), facts)


def both_kinds(contents: Sequence[Any], count: int) -> list[Any]:
    """`count` contents, of each kind in turn, so that even a few include photographs and generated scenes."""
    kinds = list(dict.fromkeys(c.kind for c in sorted(contents, key=lambda c: c.kind != "photograph")))
    queues = [[c for c in contents if c.kind == kind] for kind in kinds]
    rounds = range(max(map(len, queues), default=0))
    return [queue[k] for k in rounds for queue in queues if k < len(queue)][:count]
