"""Figures of the three trainings: live curves, tasks, adaptation to held-out types, predictions with their sigma."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gmiqa.figures.style import MUTED, PALETTE, REPORT_WIDTH, style

LIVE_SECONDS = 2.0  # between two redraws of the live curve


def live(progress: Any, name: str = "loss") -> Callable[[int, int, dict[str, float]], None]:
    """A `report` for training.train: moves a runs.Progress and, in JupyterLab, redraws the curve of `name`."""
    import time

    seen: dict[str, list[tuple[int, float]]] = {}
    state: dict[str, Any] = {"step": 0, "drawn": 0.0, "handle": None}

    def report(step: int, steps: int, values: dict[str, float]) -> None:
        for key in (name, "validation score"):
            if key in values:
                seen.setdefault(key, []).append((step, values[key]))
        shown = {k: v for k, v in values.items() if k in (name, "lr") or k.startswith("validation")}
        progress.update(step - state["step"], **shown)
        state["step"] = step
        if progress.jupyter and (step == steps or time.monotonic() - state["drawn"] > LIVE_SECONDS):
            state["drawn"] = time.monotonic()
            _redraw(state, seen, steps)

    return report


def _redraw(state: dict[str, Any], seen: Mapping[str, list[tuple[int, float]]], steps: int) -> None:
    import matplotlib.pyplot as plt
    from IPython.display import display

    with style():
        figure, axes = plt.subplots(1, len(seen), figsize=(REPORT_WIDTH / 2 * len(seen), 2.4), squeeze=False)
        for ax, (key, points) in zip(axes[0], seen.items(), strict=True):
            ax.plot(*zip(*points, strict=True))
            ax.set(xlabel="step", title=key, xlim=(0, steps))
    plt.close(figure)
    if state["handle"] is None:
        state["handle"] = display(figure, display_id=True)
    else:
        state["handle"].update(figure)


def curves(metrics: Mapping[str, pd.DataFrame], panels: Mapping[str, Sequence[str]], titles: Mapping[str, str]) -> Any:
    """One panel per entry of `panels` (key -> metric names) that was measured; one colour per run of `metrics`, one
    line style per name.

    metrics    run -> tidy table of training.History (step, part, name, value)
    titles     key -> title of the panel, with the unit of its y axis
    """
    import matplotlib.pyplot as plt

    measured = {name for table in metrics.values() for name in table["name"]}
    panels = {key: names for key, names in panels.items() if measured.intersection(names)}
    with style():
        figure, axes = plt.subplots(1, max(1, len(panels)), figsize=(REPORT_WIDTH, 3.0), squeeze=False)
        for ax, (key, names) in zip(axes[0], panels.items(), strict=False):
            for colour, (run, table) in zip(PALETTE, metrics.items(), strict=False):
                for dashes, name in zip(("-", "--", ":"), names, strict=False):
                    rows = table[table["name"] == name]
                    label = " ".join([run] * (len(metrics) > 1) + [name.replace("_", " ")] * (len(names) > 1))
                    if len(rows):
                        ax.plot(rows["step"], rows["value"], dashes, color=colour, label=label or None,
                                marker="." if len(rows) < 40 else None)
            ax.set(xlabel="step", title=titles[key])
            ax.xaxis.get_major_locator().set_params(integer=True, nbins=5)
            if (len(metrics) > 1 and ax is axes.flat[0]) or len(names) > 1:
                ax.legend()
    return figure


def task(support: Any, query: Any, name: str, shown: int = 8) -> Any:
    """Pictures of a task: support above and query below, each with its label (quality in [0,1])."""
    import matplotlib.pyplot as plt

    with style():
        shown = min(shown, len(support.quality), len(query.quality))
        figure, axes = plt.subplots(2, shown, figsize=(REPORT_WIDTH, 2 * REPORT_WIDTH / shown + 0.9), squeeze=False)
        for row, (label, batch) in zip(axes, (("support", support), ("query", query)), strict=True):
            for ax, picture, quality in zip(row, batch.images, batch.quality, strict=False):
                ax.imshow(picture.permute(1, 2, 0).cpu().clamp(0, 1).numpy())
                ax.set(xticks=[], yticks=[], xlabel=f"{float(quality):.2f}")
                ax.spines[:].set_visible(False)
            row[0].set_ylabel(label)
        figure.suptitle(f"A task: {name}; below each picture its quality")
    return figure


def adaptation(rows: pd.DataFrame, metrics: Mapping[str, str], floor: str = "label mean") -> Any:
    """Mean over (type, seed) against inner steps: a column per number of labelled pictures, a row per metric.

    rows       arm, type, seed, shots, step and the metrics' columns; of `share` the geometric mean is drawn
    metrics    column -> axis label
    floor      the arm that is drawn as a thin line, without a band
    The band is the 95 % interval of the mean over pairs of type and seed (t distribution), where there are three.
    """
    import matplotlib.pyplot as plt

    shots = sorted(rows["shots"].unique())
    names = [arm for arm in rows["arm"].unique() if arm != floor]
    with style():
        figure, axes = plt.subplots(len(metrics), len(shots), figsize=(REPORT_WIDTH, 2.7 * len(metrics)), squeeze=False,
                                    sharex=True, sharey="row")
        for row, (metric, label) in enumerate(metrics.items()):
            for ax, n in zip(axes[row], shots, strict=True):
                for number, arm in enumerate(names):
                    part = rows[(rows["arm"] == arm) & (rows["shots"] == n)]
                    mean, low, high = _mean_and_interval(part, metric)
                    ax.plot(mean.index, mean, ("-", "--", ":", "-.")[number % 4], color=PALETTE[number], label=arm)
                    ax.fill_between(mean.index, low, high, color=PALETTE[number], alpha=0.15, linewidth=0)
                ax.axhline(1.0 if metric == "share" else 0.0, color=MUTED, linewidth=1, label=floor)
                if row == 0:
                    ax.set_title(f"{n} labelled pictures")
                if row == len(metrics) - 1:
                    ax.set_xlabel("adaptation steps")
            axes[row, 0].set_ylabel(label)
            if metric == "share":  # an arm that starts far off must not flatten the curves of the others
                axes[row, 0].set_ylim(0.5, min(2.0, max(1.2, axes[row, 0].get_ylim()[1])))
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _mean_and_interval(part: pd.DataFrame, metric: str) -> tuple[pd.Series, pd.Series, pd.Series]:
    from scipy.stats import t

    units = part.set_index(["step", "type", "seed"])[metric].unstack(["type", "seed"])
    units = np.log(units) if metric == "share" else units
    mean, n = units.mean(axis=1), units.shape[1]
    half = units.std(axis=1, ddof=1) / np.sqrt(n) * t.ppf(0.975, n - 1) if n > 2 else mean * 0
    low, high = mean - half, mean + half
    return (np.exp(mean), np.exp(low), np.exp(high)) if metric == "share" else (mean, low, high)


def predicted(frame: pd.DataFrame, target: str, groups: str | None = None, judged: pd.DataFrame | None = None,
              most: int = 400, seed: int = 0) -> Any:
    """Predicted against true score with sigma as error bar, at most `most` pictures; and the calibration of sigma.

    frame    quality, mu, sigma in [0,1], and optionally a column `groups` that colours the points
    judged   what calibration is judged on; needed where `quality` is a mean over many pictures (default: frame)
    Calibration: the share of pictures whose score lies within k sigma of the prediction, against a Gaussian's share.
    """
    import matplotlib.pyplot as plt

    chosen = frame.sample(min(most, len(frame)), random_state=seed)
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(REPORT_WIDTH, 4.1))
        parts = {"": chosen} if groups is None else dict(list(chosen.groupby(groups, sort=False)))
        for colour, marker, (name, part) in zip(PALETTE, "os^Dv<>p", parts.items(), strict=False):
            left.errorbar(part["quality"], part["mu"], part["sigma"], fmt="none", ecolor=colour, alpha=0.18, zorder=1)
            left.scatter(part["quality"], part["mu"], s=13, marker=marker, color=colour, label=name or None,
                         linewidth=0, alpha=0.8, zorder=2)
        left.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
        left.set(xlim=(0, 1), ylim=(0, 1), xlabel=target, ylabel="predicted quality, bar: one sigma",
                 title="Predicted against true")
        if groups is not None:
            left.legend(loc="upper left", markerscale=1.5)
        expected, observed = coverage(frame if judged is None else judged)
        right.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
        right.plot(expected, observed, marker="o")
        right.text(0.97, 0.05, "below the diagonal:\nsigma is too small", ha="right", color=MUTED)
        right.set(xlim=(0, 1), ylim=(0, 1), xlabel="share expected within k sigma", ylabel="share observed",
                  title="Calibration of sigma")
    return figure


def coverage(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Expected and observed shares of scores within the central interval of N(mu, sigma), for nine intervals."""
    from scipy.stats import norm

    expected = np.linspace(0.1, 0.9, 9)
    deviation = (frame["quality"] - frame["mu"]).abs() / frame["sigma"]
    return expected, np.array([(deviation <= norm.ppf((1 + p) / 2)).mean() for p in expected])


def extremes(pictures: Sequence[Any], frame: pd.DataFrame, labels: Sequence[str], shown: int = 5) -> Any:
    """The pictures predicted best (upper row) and worst (lower row), with their scores and what they are."""
    import matplotlib.pyplot as plt

    order = (frame["mu"] - frame["quality"]).abs().to_numpy().argsort(kind="stable")
    shown = min(shown, len(order))
    with style():
        figure, axes = plt.subplots(2, shown, figsize=(REPORT_WIDTH, 1.5 * REPORT_WIDTH / shown + 1.8), squeeze=False)
        for row, index, title in ((axes[0], order[:shown], "closest"), (axes[1], order[::-1][:shown], "farthest")):
            for ax, i in zip(row, index, strict=True):
                ax.imshow(pictures[i].permute(1, 2, 0).cpu().numpy())
                ax.set(xticks=[], yticks=[])
                ax.set_xlabel(f"{labels[i]}\ntrue {frame['quality'].iloc[i]:.2f}\n"
                              f"predicted {frame['mu'].iloc[i]:.2f} ± {frame['sigma'].iloc[i]:.2f}", fontsize=9)
                ax.spines[:].set_visible(False)
            row[0].set_ylabel(title)
    return figure
