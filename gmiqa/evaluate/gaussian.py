"""Are the human scores of one distortion type and level Gaussian, as the paper's level branch takes them to be?

Shapiro and Wilk's test (1965) on each of KADID-10k's 25 x 5 cells, 81 scores a cell, one for each content.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from gmiqa.evaluate.claims import FAILS, LEVEL, UNDECIDED, Claim, holm

# p values of the cells: rows are types 1..25, columns levels 1..5. From the 10,125 published scores of KADID-10k (Lin,
# Hosu and Saupe, QoMEX 2019), by `cells` on a table of type_id, level and quality.
P = (
    (0.0131, 0.00076, 0.7439, 0.0211, 0.2159),  # 1
    (0.2656, 0.1123, 0.1802, 0.0049, 0.0083),  # 2
    (0.4264, 0.0075, 0.64, 0.0485, 0.0153),  # 3
    (0.0043, 0.0241, 0.0002, 0.00028, 2.8e-07),  # 4
    (4.7e-05, 0.0827, 0.00016, 5.8e-05, 1.8e-06),  # 5
    (0.0352, 0.0822, 0.3588, 0.2721, 0.8567),  # 6
    (0.2976, 0.2452, 0.4754, 0.3984, 0.8269),  # 7
    (0.0563, 0.6267, 0.9485, 0.068, 5.4e-06),  # 8
    (0.045, 2e-05, 0.001, 0.00048, 2.9e-08),  # 9
    (0.0081, 0.1957, 0.3208, 0.0085, 3.6e-05),  # 10
    (0.3401, 0.1286, 0.00057, 0.0376, 0.00018),  # 11
    (0.00094, 0.0268, 0.0392, 0.0012, 0.0015),  # 12
    (0.4419, 0.0126, 0.7307, 0.3903, 0.2624),  # 13
    (0.00018, 0.4057, 0.002, 3.6e-05, 2.5e-05),  # 14
    (0.1726, 0.0822, 0.1923, 0.6555, 0.0573),  # 15
    (0.3136, 0.0099, 0.1915, 0.0361, 0.0496),  # 16
    (0.2259, 0.1378, 0.4458, 0.0045, 0.4459),  # 17
    (2.9e-05, 0.00032, 0.1212, 0.3612, 0.0017),  # 18
    (0.4628, 0.4764, 0.4452, 0.0018, 0.0066),  # 19
    (5.2e-09, 4.6e-05, 0.00055, 0.0034, 0.1259),  # 20
    (0.0035, 0.1888, 0.4629, 0.2121, 7.1e-05),  # 21
    (3.8e-05, 0.00089, 0.0497, 0.2152, 0.0064),  # 22
    (0.062, 0.0046, 0.5933, 0.6759, 0.5636),  # 23
    (0.5172, 0.5363, 0.2446, 0.0052, 0.0175),  # 24
    (0.8418, 0.304, 0.0302, 0.00042, 0.2759),  # 25
)


def stored() -> pd.DataFrame:
    """The 125 cells of KADID-10k: type_id, level, n, p."""
    return pd.DataFrame([(t, level, 81, p) for t, row in enumerate(P, 1) for level, p in enumerate(row, 1)],
                        columns=["type_id", "level", "n", "p"])  # fmt: skip


def cells(table: pd.DataFrame) -> pd.DataFrame:
    """Shapiro-Wilk's p value of each type and level of a data set's table (type_id, level, quality)."""
    groups = table.groupby(["type_id", "level"])["quality"]
    return groups.agg(n="size", p=lambda scores: float(stats.shapiro(scores.to_numpy()).pvalue)).reset_index()


def claim(tested: pd.DataFrame, evidence: str = "") -> Claim:
    """The paper's claim, from the tested cells: a single cell that is rejected after Holm's correction refutes it."""
    adjusted, alpha = holm(tested["p"]), 1 - LEVEL
    rejected, sure = int((tested["p"] < alpha).sum()), int((adjusted < alpha).sum())
    return Claim("Human scores of one distortion type and level are Gaussian", "paper",
                 value=f"rejected in {rejected} of {len(tested)} cells at 5 %, in {sure} after Holm",
                 outcome=FAILS if sure else UNDECIDED, n=len(tested), evidence=evidence,
                 unit=f"cells of {int(np.median(tested['n']))} scores", p=float(adjusted.min()))  # fmt: skip
