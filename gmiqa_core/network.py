"""GMIQA, read top to bottom: backbone, pyramid, nodes, edges, type and level branch, score head.

    images (n,3,H,W) in [0,1] -> nodes V (n,d) -> edges E (n,n,w) -> type code (t), level (mu, sigma), score (mu, sigma)

The whole interface is seven calls: nodes, edges, type_code, level, score, classify, and model(images), which is
score(nodes(images)). V may have leading dimensions; each entry is then a graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gmiqa_core import backbone as bb
from gmiqa_core.efficientnet import EfficientNetLite, Opinion
from gmiqa_core.errors import UserError, did_you_mean
from gmiqa_core.graph import EdgeBuilder, GaussianHead, LevelBranch, NodeBuilder, TypeBranch, full, type_adjacency
from gmiqa_core.local_quality import LocalBranch, neighbourhood
from gmiqa_core.presets import PRESETS, checked

TYPES = 25
SMALLEST = 32  # px


class Judgement(NamedTuple):
    """All that a network says of n pictures, each judged alone; None where it has no such branch."""

    mu: Tensor  # (n,) quality in [0,1], higher is better, and its sigma
    sigma: Tensor
    types: Tensor | None  # (n,26) logits: 0 is none of these, 1..25 are the distortion types
    severity: Tensor | None  # (n,) in [0,1]
    places: Tensor | None  # (n,h//16,w//16) severity in [0,1] of places 16 px apart


class GMIQA(nn.Module):
    """The network. Options are PAPER's keys:

    backbone                       scresnet, or ours: lite0, lite1, lite2, see efficientnet.py
    depths, width, stem, bottleneck, self_calibrated, r, upsample      see backbone.SCResNet
    pyramid, pyramid_width         levels, and channels of the 1x1 convolution before them (None: none)
    statistics                     ours: backbone.channel_moments of every stage follow the pyramid
    standardise, dropout           of what the pyramid gives, see backbone.SpatialPyramid
    node_hidden, node_width        the two layers of the NodeBuilder; node_hidden None: one layer
    graph                          `full`; `mlp`: an MLP as wide as the EdgeBuilder in its place; `none`: V only
    edge_widths, edge_depth        widths of the edge GCN; depth, if given, cuts them or repeats the last
    edge_init                      edges from the `nodes` V, or from the `pooled` features, which are appended to V
    edge_relu, edge_residual, edge_dense      see graph.EdgeBuilder
    type_layers, type_adjacency    layers of the type branch's GCN; see graph.type_adjacency
    level_attention                ours: the level branch attends to a node's neighbours, see graph.Attention
    branches                       which of type, level, score; ours: local (local_quality), opinion (efficientnet)
    finetune_graph, bank_size      the graph behind a score: the picture alone, with a stored bank, or its whole batch
    """

    bank: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, **config: Any):
        super().__init__()
        self.config = checked(config)
        c = self.config
        self.backbone: bb.SCResNet | EfficientNetLite
        if c["backbone"] == "scresnet":
            self.backbone = bb.SCResNet(
                c["depths"], c["width"], c["self_calibrated"], c["r"], c["upsample"], c["stem"], c["bottleneck"],
                every_stage=c["statistics"], stem_start=c["stem_start"],
            )  # fmt: skip
        else:
            self.backbone = EfficientNetLite(c["backbone"], c["self_calibrated"], c["r"], c["upsample"])
        stages = self.backbone.widths if c["statistics"] else ()
        self.pyramid = bb.SpatialPyramid(self.backbone.outputs, c["pyramid_width"], c["pyramid"], stages,
                                         c["standardise"], c["dropout"])
        self.node_builder = NodeBuilder(self.pyramid.outputs, c["node_hidden"], c["node_width"])
        pooled = c["edge_init"] == "pooled"
        edge_inputs = self.pyramid.outputs if pooled else c["node_width"]
        edge_width = c["edge_widths"][-1] if c["graph"] != "none" else 0
        self.relation: nn.Module | None = None
        if c["graph"] == "full":
            self.relation = EdgeBuilder(edge_inputs, c["edge_widths"], c["edge_residual"], c["edge_dense"],
                                        c["edge_relu"])
        elif c["graph"] == "mlp":
            self.relation = _mlp(c["node_width"], c["edge_widths"])
        if "type" in c["branches"]:
            self.type_branch = TypeBranch(c["node_width"], c["type_width"], c["type_layers"])
            self.classifier = nn.Linear(c["type_width"], 1 + TYPES)
        if "level" in c["branches"]:
            self.level_branch = LevelBranch(c["node_width"], edge_width, c["head_hidden"],
                                            c["level_attention"] and c["graph"] == "full")
        if "score" in c["branches"]:
            self.score_head = GaussianHead(c["node_width"] + edge_width, c["head_hidden"])
        if "local" in c["branches"]:
            self.local_branch = LocalBranch(self.backbone.widths, self.backbone.strides)
        if "opinion" in c["branches"]:
            self.opinion = Opinion(c["backbone"])
        for name, value in zip(("mean", "std"), self.backbone.normalisation, strict=True):
            self.register_buffer(name, torch.tensor(value).view(3, 1, 1), persistent=False)
        if c["finetune_graph"] == "bank":
            self.register_buffer("bank", torch.zeros(c["bank_size"], c["node_width"] + pooled * edge_inputs))
        self.backbone_frozen = self.bank_filled = False
        self.start = bb.RANDOM_START
        self.to(memory_format=torch.channels_last)  # two to three times faster on a CPU, see PRESETS

    def maps(self, images: Tensor) -> Any:
        """Images (n,3,H,W) RGB in [0,1], H and W from 32 px -> the backbone's last map, or all of them as a list."""
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[-2:]) < SMALLEST:
            raise UserError(f"images are {tuple(images.shape)}: expected (n,3,H,W) with H and W from {SMALLEST} px.")
        return self.backbone((images - self.mean) / self.std)

    def nodes(self, images: Tensor) -> Tensor:
        """Images (n,3,H,W) -> V (n,node_width), followed by the pooled features where edge_init is `pooled`."""
        return self.nodes_of(self.maps(images))

    def nodes_of(self, maps: Any) -> Tensor:
        """V of pictures whose maps are known. From here on nothing is in half precision, not even under autocast."""
        features = self.pyramid(maps)
        V = full(self.node_builder(features))
        return torch.cat([V, full(features)], -1) if self.config["edge_init"] == "pooled" else V

    def edges(self, V: Tensor, layers: list[Tensor] | None = None) -> Tensor:
        """V (...,n,d) -> E (...,n,n,edge_width). `layers` collects the edges before and after each layer."""
        if not isinstance(self.relation, EdgeBuilder):
            raise UserError(f"graph = '{self.config['graph']}' has no edges; build the network with graph='full'.")
        if self.config["edge_init"] == "pooled":
            V = V[..., self.config["node_width"] :]
        with torch.autocast(V.device.type, enabled=False):  # degrees near N^2 need more than bf16's eight bits
            return self.relation(V, layers)

    def _relate(self, V: Tensor, E: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Nodes alone (...,n,node_width); e_ii and mean_j e_ij (...,n,edge_width)."""
        x = V[..., : self.config["node_width"]]
        if self.relation is None:
            none = x[..., :0]
            return x, none, none
        if not isinstance(self.relation, EdgeBuilder):
            relation = self.relation(x)
            return x, relation, relation
        E = self.edges(V) if E is None else E
        return x, torch.diagonal(E, dim1=-3, dim2=-2).transpose(-1, -2), E.mean(-2)

    def type_code(self, V: Tensor, E: Tensor | None = None) -> Tensor:
        """V (...,n,d), one graph, and its edges if they are known -> type code (...,type_width)."""
        x = V[..., : self.config["node_width"]]
        if not isinstance(self.relation, EdgeBuilder) or V.shape[-2] == 1:
            A = torch.eye(V.shape[-2], dtype=V.dtype, device=V.device)  # no edges, or none that count
        else:
            A = type_adjacency(self.edges(V) if E is None else E, self.config["type_adjacency"])
        with torch.autocast(V.device.type, enabled=False):
            return self.type_branch(x, A)

    def level(self, V: Tensor, E: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """V (...,n,d) -> severity mu in [0,1] (0: no distortion) and its sigma, each (...,n)."""
        x, _, mean = self._relate(V, E)
        return self.level_branch(x, mean)

    def score(self, V: Tensor) -> tuple[Tensor, Tensor]:
        """V (n,d) -> quality mu in [0,1], higher is better, and its sigma, each (n,). Picture i's score depends on V_i
        alone; with `bank` also on the stored bank; only with `batch` on all of V."""
        kind = self.config["finetune_graph"]
        if kind == "batch":
            x, diagonal, _ = self._relate(V, None)
        else:
            if kind == "bank":
                self.bank_filled = self.bank_filled or bool(self.bank.any())  # one wait for the device, not one a step
                if not self.bank_filled:
                    raise UserError("finetune_graph = 'bank' has no reference nodes yet; call fill_bank(images) first.")
                graphs = torch.cat([V[:, None], self.bank.expand(len(V), -1, -1)], 1)
            else:
                graphs = V[:, None]
            x, diagonal, _ = (part[:, 0] for part in self._relate(graphs, None))
        return self.score_head(torch.cat([x, diagonal], -1))

    def classify(self, V: Tensor) -> Tensor:
        """Ours: V (n,d) -> logits (n,26) of each picture alone; 0 is none of these, 1..25 are the distortion types."""
        return self.classifier(self.type_code(V[:, None]))

    def places(self, images: Tensor, maps: Any) -> Tensor:
        """Ours: severity in [0,1] of the places of these pictures, (n,h//16,w//16), each a mean with its neighbours."""
        return neighbourhood(torch.sigmoid(self.local_branch(images, maps)))

    def judge(self, images: Tensor) -> Judgement:
        """Images (n,3,H,W) -> all that this network can say of each, from one pass."""
        maps, has = self.maps(images), self.config["branches"]
        V = self.nodes_of(maps)
        mu, sigma = (torch.cat(column) for column in zip(*map(self.score, V.split(1)), strict=True))
        return Judgement(self._with_opinion(mu, maps), sigma, self.classify(V) if "type" in has else None,
                         self.level(V[:, None])[0][:, 0] if "level" in has else None,
                         self.places(images, maps) if "local" in has else None)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.maps(images)
        mu, sigma = self.score(self.nodes_of(maps))
        return self._with_opinion(mu, maps), sigma

    def _with_opinion(self, mu: Tensor, maps: Any) -> Tensor:
        return (mu + self.opinion(maps)) / 2 if "opinion" in self.config["branches"] else mu

    @torch.no_grad()
    def fill_bank(self, images: Tensor) -> None:
        """Store the nodes of `bank_size` reference pictures (bank_size,3,H,W) as the bank."""
        if len(images) != len(self.bank):
            raise UserError(f"the bank takes {len(self.bank)} pictures, but {len(images)} were given.")
        training = self.training
        self.eval()
        self.bank.copy_(self.nodes(images))
        self.bank_filled = True
        self.train(training)

    def freeze_backbone(self, frozen: bool = True) -> None:
        """Keep the backbone as it is: no gradients, and its BatchNorm stays in eval mode while the rest trains."""
        self.backbone_frozen = frozen
        self.backbone.requires_grad_(not frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> GMIQA:
        super().train(mode)
        if self.backbone_frozen:
            self.backbone.eval()
        return self


class QualityRegressor(nn.Module):
    """The network of meta-training: backbone, pyramid and NodeBuilder of `model` (shared, not copied) and a linear
    quality head. Images (n,3,H,W) -> quality (n,), trained towards [0,1]; not clipped, so its gradient never dies."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: GMIQA):
        super().__init__()
        self.backbone, self.pyramid, self.node_builder = model.backbone, model.pyramid, model.node_builder
        self.head = nn.Linear(model.config["node_width"], 1)
        nn.init.constant_(self.head.bias, 0.5)
        self.register_buffer("mean", model.mean, persistent=False)
        self.register_buffer("std", model.std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        images = (images - self.mean) / self.std
        return full(self.head(self.node_builder(self.pyramid(self.backbone(images))))).squeeze(-1)


def _mlp(inputs: int, widths: Sequence[int]) -> nn.Sequential:
    layers = [part for a, b in pairwise([inputs, *widths]) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def build(preset: str = "quick", **overrides: Any) -> GMIQA:
    """The network of a preset at random weights, with some options overridden. build(**model.config) rebuilds a model:
    a full set of options overrides all of the preset."""
    if preset not in PRESETS:
        hint = did_you_mean(preset, PRESETS)
        raise UserError(f"there is no preset '{preset}'{hint}; the presets are {', '.join(PRESETS)}.")
    return GMIQA(**PRESETS[preset] | overrides)
