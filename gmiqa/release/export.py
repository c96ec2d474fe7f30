"""A checkpoint of notebook 40 as one ONNX file that scores pictures without torch.

One input, `image` (1,3,H,W), float32 in [0,1], H and W from 32 px; outputs are what GMIQA.judge gives, by name.
Matrices of weights are stored in half precision or in 8 bits, and computed with in single precision: onnxruntime widens
them once, when it loads the file. The checkpoint's facts stand in the file's metadata, as JSON under `gmiqa`.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmiqa.torch_engine import NAMES
from gmiqa_core import checkpoints, graph
from gmiqa_core.efficientnet import Convolution
from gmiqa_core.errors import UserError
from gmiqa_core.files import write_atomically

OPSET = 17
EXAMPLE = (1, 3, 160, 192)  # sides whose maps are larger than every window
LARGEST_HALF = 65504


class _Judge(nn.Module):
    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(value for value in self.network.judge(image) if value is not None)


def export(checkpoint: Path, target: Path) -> dict[str, Any]:
    """Write the checkpoint's network as ONNX; returns the facts that it carries."""
    network, meta = checkpoints.load(checkpoint)
    if "score" not in network.config["branches"]:
        raise UserError(f"{checkpoint} has no score head (branches: {', '.join(network.config['branches'])}): give a "
                        "checkpoint of notebook 40_fine_tuning")
    facts = {**meta, "names": NAMES, "config": network.config, "start": network.start}
    try:
        write_atomically(target, to_onnx(network, facts))
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from error
    return facts


def to_onnx(network: Any, facts: dict[str, Any]) -> bytes:
    """The network, for pictures of any size, and JSON-able facts -> the content of an ONNX file."""
    import onnx

    judge, image = _Judge(network.eval()), torch.rand(EXAMPLE, generator=torch.manual_seed(0))
    with torch.no_grad():
        names = [name for name, value in network.judge(image)._asdict().items() if value is not None]
    sides = {"image": {2: "height", 3: "width"}} | ({"places": {1: "rows", 2: "columns"}} if "places" in names else {})
    buffer = io.BytesIO()
    with warnings.catch_warnings(), any_size(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracer, about checks that need not be in the graph
        torch.onnx.export(judge, (image,), buffer,  # type: ignore[arg-type]  # the tracer writes to any file object
                          dynamo=False, input_names=["image"], output_names=names,
                          dynamic_axes=sides, opset_version=OPSET,
                          training=torch.onnx.TrainingMode.PRESERVE)  # BatchNorm stays: weights are the checkpoint's
    model = onnx.load_from_string(buffer.getvalue())
    narrow(model)
    model.metadata_props.add(key="gmiqa", value=json.dumps(facts))
    onnx.checker.check_model(model)
    return model.SerializeToString()


@contextmanager
def any_size() -> Iterator[None]:
    """Inside, a trace holds for pictures of every size. Torch's own functions bake the example's sizes into it."""
    mean_pool = F.avg_pool2d

    def over(side: Any, k: int) -> Tensor:
        return torch.div(torch.as_tensor(side), k, rounding_mode="trunc")

    def max_pool(x: Tensor, bins: int) -> Tensor:
        """F.adaptive_max_pool2d: bin i of l covers floor(i n / l) .. ceil((i + 1) n / l)."""
        rows = [x[:, :, over(i * x.shape[2], bins) : over((i + 1) * x.shape[2] + bins - 1, bins)] for i in range(bins)]
        cells = [row[..., over(j * x.shape[3], bins) : over((j + 1) * x.shape[3] + bins - 1, bins)].amax((2, 3))
                 for row in rows for j in range(bins)]
        return torch.stack(cells, 2).unflatten(2, (bins, bins))

    def window_mean(x: Tensor, window: Any, *options: Any, **named: Any) -> Tensor:
        """F.avg_pool2d with min(window, side) for its window."""
        if x.ndim == 3:  # which ONNX does not know
            return window_mean(x[:, None], window, *options, **named)[:, 0]
        if options or named:
            return mean_pool(x, window, *options, **named)
        k = int(window if isinstance(window, int) else window[0])
        pooled = mean_pool(x, k, k, 0, True, False)  # a cut window at the end, of the pixels that it has
        rows, columns = (over(side, k).clamp(min=1) for side in x.shape[2:])
        return pooled[..., :rows, :columns]

    def pairs(n: int, device: Any) -> tuple[Tensor, Tensor, Tensor]:
        """graph.pairs as constants."""
        i, j = np.triu_indices(n)
        table = np.empty((n, n), np.int64)
        table[i, j] = table[j, i] = np.arange(len(i))
        return torch.from_numpy(i), torch.from_numpy(j), torch.from_numpy(table)

    def convolution(self: Convolution, x: Tensor) -> Tensor:
        """Convolution.forward with its padding inside ONNX's Conv: a Pad before it would cost a tenth of the time."""
        conv = self.conv
        y = PaddedConv.apply(x, conv.weight, self.padding, conv.stride, conv.groups) if self.padding else conv(x)
        return F.relu6(self.bn(y)) if self.active else self.bn(y)

    with patch.object(F, "adaptive_max_pool2d", max_pool), patch.object(F, "avg_pool2d", window_mean), \
            patch.object(graph, "pairs", pairs), patch.object(Convolution, "forward", convolution):
        yield


class PaddedConv(torch.autograd.Function):
    """A convolution without bias of x padded by (left, right, top, bottom)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: tuple, stride: tuple, groups: int) -> Tensor:  # type: ignore[override]
        return F.conv2d(F.pad(x, padding), weight, None, stride, groups=groups)

    @staticmethod
    def symbolic(g: Any, x: Any, weight: Any, padding: tuple, stride: tuple, groups: int) -> Any:
        left, right, top, bottom = padding
        return g.op("Conv", x, weight, pads_i=[top, left, bottom, right], strides_i=stride, group_i=groups)


def narrow(model: Any) -> None:
    """Store matrices and filters in half precision, each with a Cast to float32 before its use; those of the second
    opinion in 8 bits, with a scale for each output."""
    from onnx import TensorProto, helper, numpy_helper

    widen: list[Any] = []
    for tensor in list(model.graph.initializer):
        values, name = numpy_helper.to_array(tensor), tensor.name
        if values.dtype != np.float32 or values.ndim < 2 or np.abs(values).max(initial=0) > LARGEST_HALF:
            continue
        if ".opinion." in name:
            scale = np.maximum(np.abs(values).max(tuple(range(1, values.ndim)), keepdims=True) / 127, 1e-12)
            tensor.CopyFrom(numpy_helper.from_array(np.rint(values / scale).astype(np.int8), f"{name}_byte"))
            model.graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"))
            widen.append(helper.make_node("Cast", [f"{name}_byte"], [f"{name}_wide"], to=TensorProto.FLOAT))
            widen.append(helper.make_node("Mul", [f"{name}_wide", f"{name}_scale"], [name]))
        else:
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
            widen.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*widen, *nodes])
