"""Options of the network and the presets that set them."""

from __future__ import annotations

from typing import Any

from gmiqa_core.errors import UserError, did_you_mean

GRAPHS = ("full", "mlp", "none")
FINETUNE_GRAPHS = ("singleton", "bank", "batch")
ADJACENCIES = ("mean", "contrast")
BRANCHES = ("type", "level", "score")
LOCAL, OPINION = OURS = "local", "opinion"  # branches of ours
BACKBONES = ("scresnet", "lite0", "lite1", "lite2")

# Every option of the network with the paper's value; the other presets say what they change.
PAPER: dict[str, Any] = dict(
    backbone="scresnet", depths=(3, 4, 6, 3), width=64, stem="imagenet", stem_start="random", bottleneck=True,
    self_calibrated=True, r=4, upsample="bilinear",
    pyramid=(1, 2, 4), pyramid_width=256, statistics=False, standardise="layer", dropout=0.0,
    node_hidden=512, node_width=256, head_hidden=128,
    type_width=256, type_layers=2, type_adjacency="mean",
    graph="full", edge_widths=(128, 64, 64), edge_depth=None, edge_init="nodes", edge_relu=True,
    edge_residual=False, edge_dense=False, level_attention=False,
    branches=BRANCHES, finetune_graph="singleton", bank_size=16,
)  # fmt: skip
# Checkpoints from before these options existed leave them out: such a network was trained with these values.
BEFORE = dict(edge_relu=False, type_layers=1, type_adjacency="mean", level_attention=False)
# Our additions (channel moments, the DCT start and a NodeBuilder of one layer) make a few minutes of training on a CPU
# worth something: benchmarks/start.py measures it.
SMALL = PAPER | dict(
    depths=(1, 1, 1, 1), width=24, stem="conv", stem_start="dct", bottleneck=False, statistics=True,
    pyramid=(1, 2), pyramid_width=64, node_hidden=None, node_width=256, head_hidden=64, type_width=128,
    type_adjacency="contrast", edge_widths=(64, 64, 64), edge_residual=True, level_attention=True,
)  # fmt: skip
# Training speed of quick's backbone at 128 px on one core with AVX512-BF16, images/s: 430 in bf16, 185 in fp32, both
# channels_last; 120 in fp32 otherwise.
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": SMALL | dict(width=8, pyramid_width=8, node_hidden=16, node_width=16, head_hidden=8,
                         type_width=16, edge_widths=(16, 8, 8), bank_size=3),
    "quick": SMALL,
    "cpu": SMALL | dict(width=32, depths=(1, 2, 2, 1)),
    "lite": SMALL | dict(backbone="lite0", head_hidden=128, standardise="batch", dropout=0.3,
                         branches=(*BRANCHES, LOCAL)),
    "paper": PAPER,
    "repo": PAPER | dict(upsample="nearest", pyramid=(1,), pyramid_width=None, node_hidden=2048, node_width=2048,
                         edge_widths=(1024, 512, 64), edge_init="pooled", finetune_graph="batch") | BEFORE,
}  # fmt: skip


def checked(config: dict[str, Any]) -> dict[str, Any]:
    """All options: where `config` says nothing, the paper's or BEFORE's. Tuples become lists, as in JSON."""
    for name in config:
        if name not in PAPER:
            raise UserError(f"the network has no option '{name}'{did_you_mean(name, PAPER)}.")
    c: dict[str, Any] = {name: list(v) if isinstance(v, tuple) else v for name, v in (PAPER | BEFORE | config).items()}
    if c["edge_depth"] is not None:
        widths = c["edge_widths"]
        c["edge_widths"] = (widths + [widths[-1]] * c["edge_depth"])[: c["edge_depth"] - 1] + [widths[-1]]
        c["edge_depth"] = None
    for name, known in (("graph", GRAPHS), ("finetune_graph", FINETUNE_GRAPHS), ("edge_init", ("nodes", "pooled")),
                        ("type_adjacency", ADJACENCIES), ("backbone", BACKBONES), ("standardise", ("layer", "batch"))):
        if c[name] not in known:
            raise UserError(f"{name} = {c[name]!r} is not known; choose one of {', '.join(known)}.")
    if unknown := set(c["branches"]) - {*BRANCHES, *OURS}:
        raise UserError(f"branches: {', '.join(sorted(unknown))} not known; choose from {', '.join(BRANCHES + OURS)}.")
    if not c["statistics"] and (c["backbone"] != "scresnet" or {*OURS} & {*c["branches"]}):
        raise UserError("this backbone or one of these branches needs the maps of all stages: statistics=True.")
    if OPINION in c["branches"] and c["backbone"] == "scresnet":
        raise UserError("the branch opinion needs a backbone that starts from ImageNet: lite0, lite1 or lite2.")
    return c
