"""What the papers report, with its source: facts to set beside our own numbers, never in their place.

The cells of GMIQA's tables beyond its running text could not be obtained. Rows marked "back-computed" follow from the
percentages of improvement in that text, so their last digit is uncertain.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

GMIQA_TEXT = "Jia & Wei 2026, text"
BACK_COMPUTED = "Jia & Wei 2026, back-computed from percentages"
METAQAP = "arXiv 2506.16601, abstract"
BIQ_README = "BIQ2021 repository, README"


class Reported(NamedTuple):
    """One method on one data set; type "" is the whole set. NaN where the source is silent."""

    dataset: str
    method: str
    srocc: float
    plcc: float
    source: str
    note: str = ""
    type: str = ""


_TEN = "mean of 10 splits"
_OFFICIAL = "official split; ImageNet start"
_UNVERIFIED = "called LiveCD there, presumably LIVE Challenge; unverified"
NAN = float("nan")

REPORTED: tuple[Reported, ...] = (
    Reported("LIVEC", "GMIQA", 0.881, 0.889, GMIQA_TEXT, _TEN),
    Reported("KonIQ-10k", "GMIQA", 0.910, 0.926, GMIQA_TEXT, _TEN),
    Reported("CSIQ", "GMIQA", 0.962, 0.973, GMIQA_TEXT, _TEN),
    Reported("LIVE", "GMIQA", 0.979, 0.982, GMIQA_TEXT, _TEN),
    Reported("LIVE", "GMIQA", 0.980, NAN, GMIQA_TEXT, "single distortion", "WN"),
    Reported("LIVE", "GMIQA", 0.960, NAN, GMIQA_TEXT, "single distortion", "FF"),
    Reported("LIVEC", "HOSA", 0.645, 0.678, BACK_COMPUTED),
    Reported("KonIQ-10k", "HOSA", 0.670, 0.714, BACK_COMPUTED),
    Reported("CSIQ", "HOSA", 0.751, 0.824, BACK_COMPUTED),
    Reported("LIVE", "HOSA", 0.945, 0.947, BACK_COMPUTED),
    Reported("LIVEC", "CaHDC", 0.734, 0.738, BACK_COMPUTED),
    Reported("KonIQ-10k", "CaHDC", 0.819, 0.834, BACK_COMPUTED),
    Reported("CSIQ", "CaHDC", 0.903, 0.914, BACK_COMPUTED),
    Reported("LIVE", "CaHDC", 0.965, 0.964, BACK_COMPUTED),
    Reported("LIVEC", "MetaQAP", 0.9812, 0.9885, METAQAP, _UNVERIFIED),
    Reported("KonIQ-10k", "MetaQAP", 0.9658, 0.9702, METAQAP),
    Reported("BIQ2021", "MetaQAP", 0.8765, 0.884, METAQAP, "official split"),
    Reported("BIQ2021", "DeepEns", 0.7922, 0.8098, BIQ_README, "official split"),
    Reported("BIQ2021", "NASNet-Large", 0.6725, 0.7083, BIQ_README, _OFFICIAL),
    Reported("BIQ2021", "Inception-ResNet-V2", 0.6624, 0.7002, BIQ_README, _OFFICIAL),
    Reported("BIQ2021", "ResNet-50", 0.6468, 0.6862, BIQ_README, _OFFICIAL),
    Reported("BIQ2021", "DenseNet-201", 0.6364, 0.6787, BIQ_README, _OFFICIAL),
    Reported("BIQ2021", "Xception", 0.6369, 0.6772, BIQ_README, _OFFICIAL),
    Reported("BIQ2021", "MobileNet-V2", 0.6189, 0.6613, BIQ_README, _OFFICIAL),
    Reported("BIQ2021", "EfficientNet-b0", 0.5721, 0.6143, BIQ_README, _OFFICIAL),
    Reported("BIQ2021", "VGG16", 0.6001, 0.6415, BIQ_README, _OFFICIAL),
    Reported("BIQ2021", "BRISQUE", 0.6039, 0.6941, BIQ_README, "official split"),
    Reported("BIQ2021", "NIQE", 0.2674, 0.2981, BIQ_README, "official split"),
    Reported("BIQ2021", "PIQE", 0.1796, 0.2088, BIQ_README, "official split"),
)

# Statements of the text without a table cell, which notebooks 50 and 60 compare with our numbers.
ABLATION_GAIN = {"LIVEC": 2.89, "LIVE": 3.15}  # per cent of SROCC, BL to BL + DGR; GMIQA_TEXT

# The papers' names of data sets, by our loaders' names; of methods that are ours under another title.
DATASETS = {"livec": "LIVEC", "koniq10k": "KonIQ-10k", "csiq": "CSIQ", "live": "LIVE", "biq2021": "BIQ2021",
            "kadid10k": "KADID-10k", "tid2013": "TID2013", "spaq": "SPAQ"}  # fmt: skip
OURS = {"BRISQUE": "BRISQUE + SVR"}

# The paper's names for the single distortions of LIVE and CSIQ, and our loaders' names.
LIVE_TYPES = {"JP2K": "jp2k", "JPEG": "jpeg", "WN": "wn", "GB": "gblur", "FF": "fastfading"}
CSIQ_TYPES = {"WN": "awgn", "JPEG": "jpeg", "JP2K": "jpeg2000", "FN": "fnoise", "GB": "blur", "CC": "contrast"}


def reported(dataset: str = "", method: str = "") -> pd.DataFrame:
    """The reported rows of one data set or method, or all of them."""
    frame = pd.DataFrame(REPORTED)
    return frame[(frame.dataset == dataset if dataset else True) & (frame.method == method if method else True)]
