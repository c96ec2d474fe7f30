"""Does the comparison over runs and contents err at its rate, and does it see a difference that is there?

    python -m benchmarks.statistics [TRIALS]

Differences d_rc = difference + run + content + rest, the three drawn from normal distributions whose deviations (RUN,
CONTENT, REST) are those at which the crossed bootstrap used before has the false positives and the power that made us
replace it. It lives on here, beside the new one. Then the same from predictions to differences of SROCC, and other
mixtures of the three parts.

Columns: false positives (nominal 0.05), coverage of the 95 % interval at a true difference of 0.1, power for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
from scipy import stats

from gmiqa.evaluate import Comparison, compare, paired

Array = np.ndarray
RUN, CONTENT, REST, DIFFERENCE = 0.06, 0.08, 0.25, 0.1
SIZES = {"3 runs x 6 contents": (3, 6), "5 runs x 24 contents": (5, 24), "8 runs x 24 contents": (8, 24),
         "25 types x 5 seeds": (5, 25)}  # fmt: skip
MIXTURES = {"runs only": (0.1, 0.0, 0.0), "contents only": (0.0, 0.15, 0.0), "rest only": (0.0, 0.0, 0.25),
            "runs and rest": (0.08, 0.0, 0.25), "contents and rest": (0.0, 0.12, 0.25)}  # fmt: skip


def differences(rng: np.random.Generator, trials: int, size: tuple[int, int], difference: float,
                deviations: tuple[float, float, float] = (RUN, CONTENT, REST)) -> Array:
    """(trials, runs, contents)"""
    (runs, contents), (run, content, rest) = size, deviations
    return (difference + run * rng.normal(size=(trials, runs, 1)) + content * rng.normal(size=(trials, 1, contents))
            + rest * rng.normal(size=(trials, runs, contents)))  # fmt: skip


def by_crossed_bootstrap(table: Array, rng: np.random.Generator, bootstrap: int = 300) -> tuple[float, float]:
    """The interval used before: runs and contents resampled together, Student's t at the smaller number less one."""
    weights = [rng.multinomial(n, [1 / n] * n, size=bootstrap) / n for n in table.shape]
    drawn = np.einsum("br,rc,bc->b", weights[0], table, weights[1])
    fewest = min(table.shape)
    half = stats.t.ppf(0.975, fewest - 1) * drawn.std(ddof=1) * np.sqrt(fewest / (fewest - 1))
    return float(table.mean() - half), float(table.mean() + half)


def by_components(table: Array) -> tuple[float, float]:
    result = paired(table)
    return result.low, result.high


def rates(null: Iterable[tuple[float, float]], shifted: Iterable[tuple[float, float]], truth: float = DIFFERENCE
          ) -> dict[str, float]:
    """From intervals (low, high) without and with a difference."""
    (low, high), (low_, high_) = (np.nan_to_num(np.array(list(i)).T, nan=0.0) for i in (null, shifted))
    return {"false positives": float(((low > 0) | (high < 0)).mean()),
            "coverage": float(((low_ <= truth) & (truth <= high_)).mean()), "power": float((low_ > 0).mean())}


def simulated(size: tuple[int, int], trials: int, seed: int = 0, compare: Callable = by_components,
              deviations: tuple[float, float, float] = (RUN, CONTENT, REST)) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    null, shifted = (differences(rng, trials, size, d, deviations) for d in (0.0, DIFFERENCE))
    return rates(map(compare, null), map(compare, shifted))


def predictions(rng: np.random.Generator, size: tuple[int, int], pictures: int, worse: float = 0.0) -> tuple:
    """Two methods' predictions (runs, n), the target and the contents: what runs, contents and both add to the noise
    of a method is drawn for each method, and the second one's noise is exp(worse) times as large."""
    runs, contents = size
    target, content = rng.uniform(size=contents * pictures), np.repeat(np.arange(contents), pictures)
    methods = []
    for factor in (0.0, worse):
        noise = 0.25 * np.exp(0.25 * rng.normal(size=(runs, 1)) + 0.25 * rng.normal(size=contents)
                              + 0.3 * rng.normal(size=(runs, contents)) + factor)  # fmt: skip
        bias = 0.08 * rng.normal(size=contents) + 0.08 * rng.normal(size=(runs, contents))
        methods.append(target + bias[:, content] + noise[:, content] * rng.normal(size=(runs, len(content))))
    return *methods, target, content


def of_predictions(size: tuple[int, int], trials: int, pictures: int = 10, seed: int = 0, worse: float = 0.33
                   ) -> dict[str, float]:
    """The rates of `compare`, from predictions to differences of SROCC; the true difference is the mean of all."""
    rng = np.random.default_rng(seed)

    def comparisons(worse: float) -> list[Comparison]:
        drawn = (predictions(rng, size, pictures, worse) for _ in range(trials))
        return [compare(a, b, target, "srocc", content) for a, b, target, content in drawn]

    null, shifted = comparisons(0.0), comparisons(worse)
    truth = float(np.mean([c.delta for c in shifted]))
    result = rates([(c.low, c.high) for c in null], [(c.low, c.high) for c in shifted], truth)
    return {"difference": truth, **result}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="?", type=int, default=4000)
    trials = parser.parse_args().trials
    print(f"{trials} trials, seed 0; deviation of runs {RUN}, contents {CONTENT}, rest {REST}; "
          f"difference {DIFFERENCE}\n")
    rows = {}
    for name, size in SIZES.items():
        old = np.random.default_rng(1)
        rows[name, "variance components"] = simulated(size, trials)
        rows[name, "crossed bootstrap, as before"] = simulated(
            size, max(200, trials // 4), compare=lambda table, old=old: by_crossed_bootstrap(table, old))
    print(pd.DataFrame(rows).T.round(3).to_string())
    mixed = {(size, name): simulated(SIZES[size], trials, deviations=parts)
             for size in list(SIZES)[1:3] for name, parts in MIXTURES.items()}  # fmt: skip
    print("\nvariance components, other mixtures:\n" + pd.DataFrame(mixed).T.round(3).to_string())
    srocc = {name: of_predictions(size, max(200, trials // 2)) for name, size in list(SIZES.items())[:3]}
    print("\nfrom predictions to SROCC, 10 pictures a content:\n" + pd.DataFrame(srocc).T.round(3).to_string())


if __name__ == "__main__":
    main()
