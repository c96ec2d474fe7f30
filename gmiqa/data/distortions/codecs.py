"""Through real codecs on the CPU: tensors to 8-bit Pillow images and back."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def through_pillow(x: Tensor, function: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Each image of (n,3,h,w) in [0,1], rounded to 8 bits, through `function`; in [0,1] on the device of x."""
    arrays = (x * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    results = np.stack([np.asarray(function(Image.fromarray(array)).convert("RGB")) for array in arrays])
    return torch.from_numpy(results).to(x.device).permute(0, 3, 1, 2).contiguous() / 255.0
