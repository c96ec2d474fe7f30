"""RGB to CIE Lab, YCbCr and grey, and back. (n,3,h,w) tensors; RGB is gamma-encoded sRGB in [0,1]."""

import torch
from torch import Tensor

_RGB_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_D65 = (0.950456, 1.0, 1.088754)
# ITU-R BT.601, studio range: Y in 16..235, Cb and Cr in 16..240 of 255, as in MATLAB's rgb2ycbcr.
_RGB_TO_YCBCR = ((65.481, 128.553, 24.966), (-37.797, -74.203, 112.0), (112.0, -93.786, -18.214))
_YCBCR_OFFSET = (16.0, 128.0, 128.0)


def _mix(x: Tensor, matrix: Tensor) -> Tensor:
    n, _, h, w = x.shape
    return (matrix.to(x) @ x.reshape(n, 3, h * w)).reshape(n, 3, h, w)


def _xyz_matrix() -> Tensor:
    """Linear RGB to XYZ over the white point of D65."""
    return torch.tensor(_RGB_TO_XYZ, dtype=torch.float64) / torch.tensor(_D65, dtype=torch.float64)[:, None]


def grey(x: Tensor) -> Tensor:
    """Luma of BT.601, (n,1,h,w)."""
    return 0.2989 * x[:, :1] + 0.5870 * x[:, 1:2] + 0.1140 * x[:, 2:]


def rgb_to_lab(x: Tensor) -> Tensor:
    """CIE L*a*b* under D65: L in 0..100."""
    linear = torch.where(x > 0.04045, ((x.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4, x / 12.92)
    t = _mix(linear, _xyz_matrix())
    f = torch.where(t > 216 / 24389, t.clamp(min=1e-4) ** (1 / 3), t * (841 / 108) + 4 / 29)
    fx, fy, fz = f[:, 0], f[:, 1], f[:, 2]
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], dim=1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Inverse of rgb_to_lab; colours outside of sRGB are clipped to it."""
    fy = (lab[:, 0] + 16) / 116
    f = torch.stack([fy + lab[:, 1] / 500, fy, fy - lab[:, 2] / 200], dim=1)
    t = torch.where(f > 6 / 29, f * f * f, (f - 4 / 29) * (108 / 841))
    linear = _mix(t, torch.linalg.inv(_xyz_matrix())).clamp(0, 1)
    return torch.where(linear > 0.0031308, 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055, linear * 12.92)


def rgb_to_ycbcr(x: Tensor) -> Tensor:
    """BT.601 studio range, scaled to [0,1]."""
    return _mix(x, torch.tensor(_RGB_TO_YCBCR) / 255) + torch.tensor(_YCBCR_OFFSET).to(x)[:, None, None] / 255


def ycbcr_to_rgb(x: Tensor) -> Tensor:
    inverse = torch.linalg.inv(torch.tensor(_RGB_TO_YCBCR, dtype=torch.float64) / 255)
    return _mix(x - torch.tensor(_YCBCR_OFFSET).to(x)[:, None, None] / 255, inverse)
