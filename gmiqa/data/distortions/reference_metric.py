"""HaarPSI: a small full-reference metric, to see whether our distortions are as bad as people found KADID's.

Reisenhofer, Bosse, Kutyniok and Wiegand, "A Haar wavelet-based perceptual similarity index for image quality
assessment", Signal Processing: Image Communication 61, 2018: their colour version, C = 30 and alpha = 4.2. Chosen
because it sees colour and is cheap. We changed one thing: the means of I and Q are compared with their sign, because by
magnitude alone a picture in complementary colours (type 7, level 5) is the same picture. Like every metric of local
structure, it hardly sees a constant shift of all pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_C, _ALPHA = 30.0, 4.2
_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


@torch.no_grad()
def haarpsi(image: Tensor, reference: Tensor) -> Tensor:
    """Similarity in [0,1], 1 the same, of each of (n,3,h,w) to its reference (n or 1,3,h,w); values in [0,1], sides of
    16 pixels or more."""
    y, iq = _half_yiq(image)
    y0, iq0 = _half_yiq(reference)
    coefficients, coefficients0 = _haar(y), _haar(y0)
    # (n,2,h,w): both directions; the two fine scales are compared, the coarse one says where it matters.
    fine = torch.stack([_similarity(coefficients[:, s], coefficients0[:, s]) for s in (0, 1)]).mean(0)
    weight = torch.maximum(coefficients[:, 2], coefficients0[:, 2])
    colour = _similarity(F.avg_pool2d(iq, 2, 1), F.avg_pool2d(iq0, 2, 1)).mean(1, keepdim=True)
    colour = F.pad(colour, (0, 1, 0, 1), mode="replicate")
    similarity = torch.cat([fine, colour], dim=1)
    weight = torch.cat([weight, weight.mean(1, keepdim=True)], dim=1)
    pooled = (torch.sigmoid(_ALPHA * similarity) * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp(min=1e-8)
    return (torch.logit(pooled.clamp(0.5, 1 - 1e-7)) / _ALPHA).clamp(0, 1) ** 2


def _half_yiq(x: Tensor) -> tuple[Tensor, Tensor]:
    """Y (n,1,h/2,w/2) and IQ (n,2,h/2,w/2), scaled to 0..255."""
    n, _, h, w = x.shape
    yiq = (torch.tensor(_YIQ, device=x.device) @ (255 * x.float()).reshape(n, 3, h * w)).reshape(n, 3, h, w)
    yiq = F.avg_pool2d(yiq, 2)
    return yiq[:, :1], yiq[:, 1:]


def _haar(y: Tensor) -> Tensor:
    """Magnitudes of Haar coefficients, (n,3 scales,2 directions,h,w), undecimated."""
    maps = []
    for scale in (1, 2, 3):
        k = 2**scale
        step = torch.ones(k, k, device=y.device) / k
        step[: k // 2] *= -1
        padded = F.pad(y, (k // 2 - 1, k // 2, k // 2 - 1, k // 2), mode="replicate")
        maps.append(F.conv2d(padded, torch.stack([step, step.T])[:, None]).abs())
    return torch.stack(maps, dim=1)


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    return (2 * a * b + _C) / (a * a + b * b + _C)
