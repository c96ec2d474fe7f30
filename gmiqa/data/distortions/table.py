"""The 25 types of KADID-10k as one table: number, name, group, the parameter at levels 1 to 5, function."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from gmiqa.data.distortions import blur, colour, compression, noise, sharpness, spatial, tone
from gmiqa_core.errors import UserError


@dataclass(frozen=True)
class Type:
    """One distortion. `function(x, parameter)`, or `function(x, parameter, generators)` where `random`."""

    id: int
    name: str
    title: str
    group: str
    levels: tuple[float, float, float, float, float]
    function: Callable[..., Tensor]
    parameter: str
    random: bool = False
    note: str = ""
    codec: bool = False


TYPES: tuple[Type, ...] = (
    Type(1, "gaussian_blur", "Gaussian blur", "blur", (0.1, 0.5, 1, 2, 5), blur.gaussian_blur, "sigma, px"),
    Type(2, "lens_blur", "Lens blur", "blur", (1, 2, 4, 6, 8), blur.lens_blur, "radius, px"),
    Type(3, "motion_blur", "Motion blur", "blur", (1, 2, 4, 6, 10), blur.motion_blur, "length, px", True,
         "level 1, a line of one pixel, is the identity"),
    Type(4, "colour_diffusion", "Colour diffusion", "colour", (1, 3, 6, 8, 12), colour.colour_diffusion, "amount"),
    Type(5, "colour_shift", "Colour shift", "colour", (1, 3, 6, 8, 12), colour.colour_shift, "shift, px", True,
         "human scores turn slightly after level 3"),
    Type(6, "colour_quantisation", "Colour quantisation (dithered palette)", "colour", (64, 48, 32, 16, 8),
         colour.colour_quantisation, "colours", note="a k-means palette instead of minimum variance", codec=True),
    Type(7, "saturation_hsv", "Saturation (HSV)", "colour", (0.4, 0.2, 0.1, 0, -0.4), colour.saturation_hsv, "factor"),
    Type(8, "saturation_lab", "Saturation (Lab)", "colour", (1, 2, 3, 6, 9), colour.saturation_lab, "factor",
         note="level 1 is the identity"),
    Type(9, "jpeg2000", "JPEG2000", "compression", (16, 32, 45, 120, 400), compression.jpeg2000, "compression ratio",
         codec=True),
    Type(10, "jpeg", "JPEG", "compression", (43, 36, 24, 7, 4), compression.jpeg, "quality", codec=True),
    Type(11, "white_noise", "White noise (RGB)", "noise", (0.001, 0.002, 0.003, 0.005, 0.01), noise.white_noise,
         "variance", True),
    Type(12, "white_noise_colour", "White noise (YCbCr)", "noise", (0.0001, 0.0005, 0.001, 0.002, 0.003),
         noise.white_noise_colour, "variance", True),
    Type(13, "impulse_noise", "Impulse noise", "noise", (0.001, 0.005, 0.01, 0.02, 0.03), noise.impulse_noise,
         "density", True),
    Type(14, "multiplicative_noise", "Multiplicative noise", "noise", (0.001, 0.005, 0.01, 0.02, 0.05),
         noise.multiplicative_noise, "variance", True),
    Type(15, "denoise_dct", "Denoise (sliding DCT for DnCNN)", "noise", (0.01, 0.03, 0.05, 0.1, 0.15),
         noise.denoise_dct, "variance", True, "a sliding DCT denoiser stands in for KADID's DnCNN"),
    Type(16, "brighten", "Brighten", "tone", (0.1, 0.2, 0.4, 0.7, 1.1), tone.brighten, "amount"),
    Type(17, "darken", "Darken", "tone", (0.05, 0.1, 0.2, 0.4, 0.8), tone.darken, "amount"),
    Type(18, "mean_shift", "Mean shift", "tone", (0.15, 0.08, 0, -0.08, -0.15), tone.mean_shift, "shift",
         note="level 3 is the identity: levels are no order of quality"),
    Type(19, "jitter", "Jitter", "spatial", (0.05, 0.1, 0.2, 0.5, 1), spatial.jitter, "sigma, px", True),
    Type(20, "non_eccentricity_patches", "Non-eccentricity patches", "spatial", (20, 40, 60, 80, 100),
         spatial.non_eccentricity_patches, "patches per 512x384", True, "the count scales with the area"),
    Type(21, "pixelate", "Pixelate", "spatial", (0.01, 0.05, 0.1, 0.2, 0.5), spatial.pixelate, "amount"),
    Type(22, "quantisation", "Quantisation (Otsu)", "tone", (20, 16, 13, 10, 7), tone.quantisation, "thresholds"),
    Type(23, "colour_blocks", "Colour blocks", "spatial", (2, 4, 6, 8, 10), spatial.colour_blocks, "blocks per 512x384",
         True, "the count scales with the area"),
    Type(24, "high_sharpen", "High sharpen", "sharpness", (1, 2, 3, 6, 12), sharpness.high_sharpen, "amount"),
    Type(25, "contrast_change", "Contrast change", "tone", (0.3, 0.15, 0, -0.4, -0.6), tone.contrast_change, "amount",
         note="from more contrast to less: levels are no order of quality"),
)

GROUPS: dict[str, tuple[int, ...]] = {
    group: tuple(t.id for t in TYPES if t.group == group)
    for group in ("blur", "colour", "compression", "noise", "tone", "spatial", "sharpness")
}


def type_id(name_or_id: str | int) -> int:
    """1..25 from a number or a name ("jpeg", "lens blur")."""
    if isinstance(name_or_id, str) and not name_or_id.strip().isdigit():
        key = name_or_id.strip().lower().replace(" ", "_").replace("-", "_").replace("color", "colour")
        names = {t.name: t.id for t in TYPES}
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            expected = f"1..25 or one of: {', '.join(names)}"
            raise UserError(f"Unknown distortion type {name_or_id!r}.{hint} Expected {expected}.")
        return names[key]
    number = int(name_or_id)
    if number != float(name_or_id) or not 1 <= number <= len(TYPES):
        raise UserError(f"Distortion type must be 1..{len(TYPES)} or a name; got {name_or_id!r}.")
    return number
