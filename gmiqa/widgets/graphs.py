"""Build the distortion graph of a chosen type and size and look at its edges before and after the GCN."""

from __future__ import annotations

import base64
import html
import io
from typing import Any

import torch

from gmiqa.data.distortions import TYPES, type_id
from gmiqa.experiments.graph_probe import distortion_graph
from gmiqa.widgets import interactive
from gmiqa_core.network import GMIQA

MOST = 12  # nodes that can be drawn as pictures


@torch.no_grad()
def build_graph(model: GMIQA, batch: Any, type: int | str, n: int, seed: int = 0) -> Any:
    """The graph of n pictures of `type` from `batch` (synthetic.Batch) as torch_geometric Data, mixed levels and
    contents; its nodes carry image, level, severity, content and the level branch's mu and sigma."""
    wanted = type_id(type)
    rows = torch.nonzero(batch.type.cpu() == wanted).flatten()
    chosen = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:n]]
    chosen = chosen[batch.level.cpu()[chosen].argsort(stable=True)]
    part = batch[chosen.to(batch.type.device)]
    model.eval()
    V = model.nodes(part.images.to(next(model.parameters()).device))
    E = model.edges(V)
    mu, sigma = model.level(V, E)
    return distortion_graph(V, E, model.config["type_adjacency"], image=part.images.cpu(), level=part.level.cpu(),
                            severity=part.severity.cpu(), content=part.content.cpu(), mu=mu.cpu(), sigma=sigma.cpu())


def graph_builder(model: GMIQA, batch: Any, type: str = "jpeg", n: int = 8) -> Any:
    """A widget over the pictures of `batch`; where nobody can use it, the figure of the first choice."""
    from gmiqa.figures.graphs import graph

    def draw(wanted: int, size: int, seed: int) -> Any:
        data = build_graph(model, batch, wanted, size, seed)
        error = float((data.mu - data.severity).abs().mean())
        title = f"{TYPES[wanted - 1].title}: {data.num_nodes} pictures; level error {error:.2f} on the scale 0 to 1"
        return graph(data, title), title

    if not interactive():
        return draw(type_id(type), n, 0)[0]

    import ipywidgets as ipw
    import matplotlib.pyplot as plt

    from gmiqa.widgets.parts import Status

    present = {int(t) for t in batch.type.unique()}
    names = {f"{t.group}: {t.title}": t.id for t in sorted(TYPES, key=lambda t: (t.group, t.id)) if t.id in present}
    kind = ipw.Dropdown(options=names, value=type_id(type), description="Distortion", tooltip="type of every node")
    size = ipw.IntSlider(n, 1, MOST, description="Pictures", tooltip="nodes of the graph; arrow keys work",
                         continuous_update=False)
    draw_again = ipw.Button(description="Other pictures", tooltip="draw other contents and levels")
    shown, status = ipw.HTML(), Status()
    state = {"seed": 0}

    def redraw(_: Any = None) -> None:
        figure, title = draw(kind.value, size.value, state["seed"])
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        plt.close(figure)
        encoded = base64.b64encode(buffer.getvalue()).decode()
        shown.value = f"<img alt='{html.escape(title)}' style='max-width:100%' src='data:image/png;base64,{encoded}'>"
        status.say("")

    def other(_: Any) -> None:
        state["seed"] += 1
        redraw()

    kind.observe(status.guard(redraw), "value")
    size.observe(status.guard(redraw), "value")
    draw_again.on_click(status.guard(other))
    redraw()
    return ipw.VBox([ipw.HBox([kind, size, draw_again], layout=ipw.Layout(flex_flow="row wrap")), status, shown])
