"""How far an exported model is from its checkpoint: the largest and mean difference of every output, over pictures.

    python -m benchmarks.parity CHECKPOINT FILE.onnx FOLDER [--pictures 200]
"""

import argparse
from pathlib import Path

import numpy as np

from gmiqa.score import Scorer
from gmiqa.score.folder import find


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("exported", type=Path)
    parser.add_argument("folder")
    parser.add_argument("--pictures", type=int, default=200)
    given = parser.parse_args()
    paths = list(find([given.folder], recursive=True))
    paths = paths[:: max(1, len(paths) // given.pictures)][: given.pictures]
    both = [Scorer(path, "cpu").score_many(paths, with_map=True) for path in (given.checkpoint, given.exported)]
    rows, same = [], 0
    for ours, theirs in zip(*both, strict=True):
        named = [dict(score.distortions) for score in (ours, theirs)]
        same += ours.distortion == theirs.distortion
        rows.append({"quality": ours.quality - theirs.quality, "sigma": ours.sigma - theirs.sigma,
                     "probabilities, in percent": 100 * max(abs(named[0][name] - named[1][name]) for name in named[0]),
                     "severity, in percent": 100 * (ours.severity - theirs.severity),
                     "map": np.abs(ours.map.values - theirs.map.values).max()})  # type: ignore[union-attr]
    print(f"{len(rows)} pictures, the same name in {same}; differences on 0..100, largest and mean:")
    for name in rows[0]:
        values = np.abs([row[name] for row in rows])
        print(f"  {name}: {values.max():.5f}, {values.mean():.5f}")


if __name__ == "__main__":
    main()
