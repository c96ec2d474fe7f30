"""Types 1 to 3: Gaussian, lens and motion blur. Each function: (n,3,h,w) in [0,1], parameter -> the same shape."""

import torch
from torch import Generator, Tensor

from gmiqa.data.distortions import filters


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    return filters.gaussian_blur(x, sigma)


def lens_blur(x: Tensor, radius: float) -> Tensor:
    return filters.convolve(x, filters.disk_kernel(radius).to(x.device).expand(len(x), -1, -1))


def motion_blur(x: Tensor, length: float, generators: list[Generator]) -> Tensor:
    """Line kernel at a random whole angle of 0..180 degrees, one per image."""
    angles = [int(torch.randint(0, 181, (1,), generator=g)) for g in generators]
    return filters.convolve(x, torch.stack([filters.line_kernel(length, angle) for angle in angles]).to(x.device))
