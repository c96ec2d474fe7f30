"""The paper's tables 1-4 and 6 with our numbers: CSV, Markdown, LaTeX.

In every column the best is bold and the second underlined, and n is stated. Beside each figure of ours stand the
paper's and the difference. A cell that was not run, or that the paper's text does not give, is blank.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from gmiqa.evaluate.reported import CSIQ_TYPES, LIVE_TYPES, OURS, reported
from gmiqa_core.errors import UserError

TITLES = {"srocc": "SROCC", "plcc": "PLCC", "plcc_logistic": "PLCC (logistic)", "krocc": "KROCC", "rmse": "RMSE"}
RISES = {"SROCC", "PLCC", "PLCC (logistic)", "KROCC", "paper", "paper SROCC", "paper PLCC"}
FALLS = {"RMSE"}
Cells = dict[str, dict[tuple[str, str], float]]  # method -> (part, column) -> value


@dataclass
class Table:
    """A frame with one row per method and columns (part, column); `rank` says where the best of a column lies."""

    frame: pd.DataFrame
    caption: str
    rank: dict[tuple[str, str], int] = field(default_factory=dict)  # +1: the highest is best, -1: the lowest
    digits: int = 3

    def texts(self, bold: str = "{}", underlined: str = "{}") -> pd.DataFrame:
        """The cells as text, best and second marked; what is missing is blank."""
        result = pd.DataFrame("", index=self.frame.index, columns=self.frame.columns)
        for column in self.frame.columns:
            values = self.frame[column]
            result[column] = [self._text(v, column) for v in values]
            if column in self.rank:
                # marks follow what is printed: equal texts are equally good
                shown = (values.astype(float).round(self.digits) * self.rank[column]).dropna()
                order = sorted(shown.unique(), reverse=True)[:2]
                for mark, value in zip((bold, underlined), order, strict=False):
                    for row in shown.index[shown == value] if len(shown) > 1 else []:
                        result.loc[row, column] = mark.format(result.loc[row, column])
        return result

    def _text(self, value: object, column: tuple[str, str]) -> str:
        if isinstance(value, str):
            return value
        if value is None or not np.isfinite(value):  # type: ignore[call-overload]
            return ""
        if column[1] in ("n", "splits"):
            return f"{value:.0f}"
        return f"{value:+.{self.digits}f}" if column[1].startswith("difference") else f"{value:.{self.digits}f}"

    def markdown(self) -> str:
        texts = self.texts("**{}**", "<u>{}</u>")
        head = [" ".join(dict.fromkeys(c)).strip() for c in texts.columns]
        lines = [["method", *head], ["---", *["---:"] * len(head)]]
        lines += [[str(name), *row] for name, row in zip(texts.index, texts.to_numpy(), strict=True)]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{self.caption}\n"

    def latex(self) -> str:
        """A booktabs table; needs \\usepackage{booktabs}."""
        texts = self.texts("\\textbf{{{}}}", "\\underline{{{}}}")
        parts = list(dict.fromkeys(c[0] for c in texts.columns))
        spans = [(p, sum(c[0] == p for c in texts.columns)) for p in parts]
        top = " & ".join(["", *[f"\\multicolumn{{{n}}}{{c}}{{{_tex(p)}}}" for p, n in spans]])
        second = " & ".join(["method", *[_tex(c[1]) for c in texts.columns]])
        rows = [" & ".join([_tex(str(n)), *row]) for n, row in zip(texts.index, texts.to_numpy(), strict=True)]
        body = [f"{line} \\\\" for line in (top, second, *rows)]
        return "\n".join([
            "\\begin{table}", "\\centering", f"\\caption{{{_tex(self.caption)}}}",
            f"\\begin{{tabular}}{{l{'r' * len(texts.columns)}}}", "\\toprule", *body[:2], "\\midrule", *body[2:],
            "\\bottomrule", "\\end{tabular}", "\\end{table}", "",
        ])  # fmt: skip

    def save(self, folder: Path, name: str) -> list[Path]:
        """name.csv (full precision), name.md and name.tex in the folder."""
        paths = [Path(folder) / f"{name}.{ending}" for ending in ("csv", "md", "tex")]
        self.frame.to_csv(paths[0])
        paths[1].write_text(self.markdown(), encoding="utf-8")
        paths[2].write_text(self.latex(), encoding="utf-8")
        return paths


def _tex(text: str) -> str:
    return "".join(f"\\{c}" if c in "&%_#${}" else {"\\": "\\textbackslash{}"}.get(c, c) for c in text)


def overall(
    ours: pd.DataFrame, datasets: list[str], caption: str, metrics: tuple[str, ...] = ("srocc", "plcc"),
    source: str = "",
) -> Table:  # fmt: skip
    """Methods x (data set: metric, paper, difference ..., n), from rows method, dataset, metric, value, n.

    source: whose reported numbers stand beside ours (the start of reported.source), all without it.
    """
    cells: Cells = {}
    columns: list[tuple[str, str]] = []
    for name in datasets:
        for metric in metrics:
            title = TITLES[metric]
            columns += [(name, title), (name, f"paper {title}"), (name, f"difference {title}")]
        columns += [(name, "n")]
        for fact in reported(name).query("type == '' and source.str.startswith(@source)").itertuples():
            told = cells.setdefault(OURS.get(fact.method, fact.method), {})
            told.update({(name, "paper SROCC"): fact.srocc, (name, "paper PLCC"): fact.plcc})
        for row in ours[ours.dataset == name].itertuples():
            cells.setdefault(row.method, {})[name, TITLES[row.metric]] = row.value
            cells[row.method][name, "n"] = row.n
    return _table(cells, columns, caption)


def mean_over_folds(scored: pd.DataFrame) -> pd.DataFrame:
    """Rows of `protocols.scores` with a dataset column -> one per method, dataset, type and metric, with its folds."""
    grouped = scored.groupby(["method", "dataset", "type", "metric"], sort=False)
    names = grouped["fold"].agg(lambda folds: ", ".join(dict.fromkeys(folds)))
    return grouped[["value", "n"]].mean().assign(folds=grouped["fold"].nunique(), fold_names=names).reset_index()


def run_on(ours: pd.DataFrame) -> str:
    """What our numbers are means of, for each method where they differ; "" where the rows do not say."""
    if "folds" not in ours or ours.empty:
        return ""
    rows = ours.drop_duplicates(["method", "folds"])
    what = {}
    for row in rows.itertuples():
        mean = f"the mean of {f'{row.folds} splits' if row.folds > 3 else row.fold_names}"
        what[row.method] = mean if row.folds > 1 else f"{row.fold_names} alone"
    if len(set(what.values())) == 1:
        return f" Ours: {next(iter(what.values()))}."
    return f" Ours: {'; '.join(f'{method} {text}' for method, text in what.items())}."


def by_type(ours: pd.DataFrame, dataset: str, types: dict[str, str], caption: str, metric: str = "srocc") -> Table:
    """Methods x (type: metric, paper, difference, n), from rows method, dataset, type, metric, value, n.

    types: title -> the loader's name of the type.
    """
    title = TITLES[metric]
    columns = [(t, c) for t in types for c in (title, f"paper {title}", f"difference {title}", "n")]
    cells: Cells = {}
    for fact in reported(dataset).query("type != ''").itertuples():
        cells.setdefault(fact.method, {})[fact.type, f"paper {title}"] = getattr(fact, metric)
    names = {name: t for t, name in types.items()}
    for row in ours[(ours.dataset == dataset) & (ours.metric == metric) & ours.type.isin(list(names))].itertuples():
        cells.setdefault(row.method, {}).update({(names[row.type], title): row.value, (names[row.type], "n"): row.n})
    return _table(cells, columns, caption)


def _table(cells: Cells, columns: list[tuple[str, str]], caption: str) -> Table:
    cells.setdefault("GMIQA", {})
    rows = [[row.get(column, np.nan) for column in columns] for row in cells.values()]
    frame = pd.DataFrame(rows, index=list(cells), columns=pd.MultiIndex.from_tuples(columns), dtype=float)
    for part, column in columns:
        if column.startswith("difference"):
            title = column.removeprefix("difference ")
            frame[part, column] = frame[part, title] - frame[part, f"paper {title}"]
    rank = {c: 1 if c[1] in RISES else -1 for c in columns if c[1] in RISES | FALLS}
    return Table(frame.rename_axis("method"), caption, rank)


def cost(rows: pd.DataFrame, caption: str) -> Table:
    """Table 6: parameters (millions), FLOPs (billions) and time (ms a picture), per module and method.

    rows: method, parameters, flops, ms; NaN where unknown. The paper's text gives no number here.
    """
    scaled = {"parameters (M)": rows["parameters"] / 1e6, "FLOPs (G)": rows["flops"] / 1e9, "time (ms)": rows["ms"]}
    frame = pd.DataFrame({("", name): column.to_numpy(float) for name, column in scaled.items()})
    return Table(frame.set_axis(list(rows["method"])).rename_axis("method"), caption, digits=4)


def paper_table(number: int, ours: pd.DataFrame) -> Table:
    """Table 1, 2, 3, 4 or 6 of Jia & Wei 2026 in its layout, from tidy rows of ours; without rows ours is blank."""
    blank = "Paper's numbers: what the text of Jia & Wei 2026 gives. Blank: not run here, or not in the text."
    note = f"{blank} Bold: best of a column, underlined: second."
    if number in (1, 2):
        names = ["LIVEC", "KonIQ-10k"] if number == 1 else ["CSIQ", "LIVE"]
        caption = (f"Table {number}: {' and '.join(names)}. The paper's numbers are means of 10 splits."
                   f"{run_on(ours[ours.dataset.isin(names)])} {note}")
        return overall(ours, names, caption, source="Jia & Wei")
    if number in (3, 4):
        name, types = ("LIVE", LIVE_TYPES) if number == 3 else ("CSIQ", CSIQ_TYPES)
        return by_type(ours, name, types, f"Table {number}: SROCC for single distortions of {name}. {note}")
    if number == 6:
        return cost(ours, f"Table 6: parameters, FLOPs and time of every module and method. {blank}")
    raise UserError(f"Table {number} is not one of 1, 2, 3, 4 and 6; table 5, the ablation, is made by 60_ablations.")
