"""Through real codecs on the CPU: tensors to 8-bit Pillow images, in threads, and back."""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="codec")


# A forked worker inherits the executor without its threads and would wait for them for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)


def through_pillow(x: Tensor, function: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Each image of (n,3,h,w) in [0,1], rounded to 8 bits, through `function`; the result in [0,1] on the device of x."""
    arrays = (x * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    def one(array: np.ndarray) -> np.ndarray:
        return np.array(function(Image.fromarray(array)).convert("RGB"))

    # The threads overlap: Pillow lets go of Python's lock in decoding, quantising and JPEG, though not in JPEG2000 encoding.
    results = list(_threads().map(one, arrays)) if len(arrays) > 1 else [one(arrays[0])]
    return torch.from_numpy(np.stack(results)).to(x.device).permute(0, 3, 1, 2).contiguous() / 255.0
