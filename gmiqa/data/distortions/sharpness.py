"""Type 24: over-sharpening."""

import torch
from torch import Tensor

from gmiqa.data.distortions import filters
from gmiqa.data.distortions.colourspaces import lab_to_rgb, rgb_to_lab


def high_sharpen(x: Tensor, amount: float) -> Tensor:
    """Unsharp mask on Lab's L, as MATLAB's imsharpen: L + amount * (L - L blurred with sigma 3 over 13 taps)."""
    lab = rgb_to_lab(x)
    lightness = lab[:, :1]
    sharp = lightness + amount * (lightness - filters.gaussian_blur(lightness, 3.0, size=13))
    return lab_to_rgb(torch.cat([sharp, lab[:, 1:]], dim=1))
