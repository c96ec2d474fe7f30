"""Linear filters that the distortions share: batched, replicated borders, any size from one pixel up."""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_kernel(sigma: float, size: int | None = None) -> Tensor:
    """Sampled Gaussian of unit sum; `size` taps, by default 2*ceil(2 sigma)+1 as in MATLAB's imgaussfilt."""
    radius = (size - 1) // 2 if size else math.ceil(2 * sigma)
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-(x**2) / (2 * sigma**2))
    return (kernel / kernel.sum()).float()


@functools.lru_cache(maxsize=256)
def _band_matrix(length: int, sigma: float, size: int | None, device: torch.device) -> Tensor:
    """(length, length) matrix that filters a column of pixels: taps beyond the border fall on its last pixel."""
    kernel = gaussian_kernel(sigma, size)
    radius = len(kernel) // 2
    rows = torch.arange(length).repeat_interleave(len(kernel))
    columns = (rows + torch.arange(-radius, radius + 1).repeat(length)).clamp(0, length - 1)
    band = torch.zeros(length, length)
    band.index_put_((rows, columns), kernel.repeat(length), accumulate=True)
    return band.to(device)


def gaussian_blur(x: Tensor, sigma: float, size: int | None = None) -> Tensor:
    """Separable Gaussian blur of (n,c,h,w). On a CPU two matrix products beat PyTorch's convolution for all but tiny
    sigmas, and cost the same whatever sigma is."""
    h, w = x.shape[-2:]
    kernel = gaussian_kernel(sigma, size).to(x.device)
    if len(kernel) <= 7 or x.device.type != "cpu":
        return convolve(x, torch.outer(kernel, kernel).expand(len(x), -1, -1))
    return _band_matrix(h, sigma, size, x.device) @ x @ _band_matrix(w, sigma, size, x.device).T


def convolve(x: Tensor, kernels: Tensor) -> Tensor:
    """Each image of (n,c,h,w) with its own odd, point-symmetric kernel of (n,k,k), replicated border.

    On a GPU always by Fourier transform: convolutions and products there may run in TF32, which the third digit shows.
    """
    n, c, h, w = x.shape
    k = kernels.shape[-1]
    padded = F.pad(x, (k // 2,) * 4, mode="replicate")
    if k <= 7 and x.device.type == "cpu":
        # All planes as groups of one image: the layout that PyTorch's CPU convolution is fast for.
        weight = kernels.repeat_interleave(c, dim=0)[:, None].contiguous()
        return F.conv2d(padded.reshape(1, n * c, *padded.shape[-2:]), weight, groups=n * c).reshape(n, c, h, w)
    size = (_fast_length(h + k - 1), _fast_length(w + k - 1))
    spectrum = torch.fft.rfft2(padded, s=size) * torch.fft.rfft2(kernels[:, None], s=size)
    return torch.fft.irfft2(spectrum, s=size)[..., k - 1 : k - 1 + h, k - 1 : k - 1 + w]


def _fast_length(n: int) -> int:
    """The next even length whose prime factors are 2, 3 and 5: others make a Fourier transform several times slower."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1 and n % 2 == 0:
            return n
        n += 1


@functools.lru_cache(maxsize=32)
def disk_kernel(radius: float) -> Tensor:
    """Disk of unit sum; each pixel weighs the area of it that the disk covers (integrated over 2,000 strips)."""
    half = math.ceil(radius - 0.5)
    strips = 2000
    x = (torch.arange((2 * half + 1) * strips, dtype=torch.float64) + 0.5) / strips - half - 0.5
    reach = (radius**2 - x**2).clamp(min=0).sqrt()
    y = torch.arange(-half, half + 1, dtype=torch.float64)[:, None]
    covered = (torch.minimum(y + 0.5, reach) - torch.maximum(y - 0.5, -reach)).clamp(min=0)
    area = covered.reshape(2 * half + 1, 2 * half + 1, strips).mean(-1)
    return (area / area.sum()).float()


def line_kernel(length: float, degrees: float) -> Tensor:
    """Line of that length and angle through the centre; a pixel weighs 1 - its distance (fspecial's 'motion')."""
    half = (length - 1) / 2
    radius = math.ceil(half)
    y, x = torch.meshgrid(*[torch.arange(-radius, radius + 1, dtype=torch.float64)] * 2, indexing="ij")
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    along = (x * cos - y * sin).clamp(-half, half)
    distance = torch.hypot(x - along * cos, y + along * sin)
    kernel = (1 - distance).clamp(min=0)
    return (kernel / kernel.sum()).float()
