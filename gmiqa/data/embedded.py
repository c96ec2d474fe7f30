"""The pictures that are always there: photographs inside scikit-image and scikit-learn, and generated scenes.

Nothing is downloaded. A scene is a dead-leaves picture (Lee, Mumford & Huang, "Occlusion models for natural images",
IJCV 2001): opaque shapes whose radii follow r^-3 hide one another, which gives the sharp edges and the 1/f spectrum of
photographs. Leaves carry shading, 1/f texture, gratings and soft shadows; scenes differ in composition, light and
colours. The same (index, seed) always gives the same scene, however many are made.
"""

from __future__ import annotations

import importlib.util
import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from gmiqa.data import images
from gmiqa_core.errors import UserError

# name -> package and file; all in colour, 300 to 740 pixels wide
PHOTOGRAPHS = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "coffee": ("skimage", "data/coffee.png"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
}
SIZES = ((512, 384), (384, 512), (640, 400), (448, 448), (576, 432), (400, 600))  # width, height

# linear RGB anchors of natural materials, grouped; a scene draws a few groups
PALETTES = {
    "foliage": ((0.05, 0.12, 0.03), (0.12, 0.22, 0.05), (0.25, 0.33, 0.08), (0.03, 0.06, 0.03), (0.30, 0.26, 0.06)),
    "earth": ((0.22, 0.13, 0.07), (0.35, 0.24, 0.14), (0.10, 0.06, 0.04), (0.45, 0.36, 0.25)),
    "stone": ((0.32, 0.31, 0.29), (0.16, 0.16, 0.17), (0.55, 0.53, 0.50), (0.08, 0.08, 0.09)),
    "water": ((0.05, 0.12, 0.20), (0.12, 0.25, 0.32), (0.30, 0.45, 0.52), (0.03, 0.06, 0.10)),
    "skin": ((0.55, 0.32, 0.22), (0.35, 0.18, 0.12), (0.68, 0.46, 0.34), (0.16, 0.08, 0.05)),
    "flowers": ((0.55, 0.04, 0.06), (0.65, 0.42, 0.03), (0.45, 0.08, 0.30), (0.75, 0.68, 0.55), (0.25, 0.10, 0.45)),
    "painted": ((0.62, 0.05, 0.04), (0.05, 0.14, 0.42), (0.70, 0.66, 0.58), (0.70, 0.45, 0.05), (0.04, 0.28, 0.24)),
}
# composition: palettes to draw from, shapes, (smallest, largest) radius as part of the shorter side, background
COMPOSITIONS = {
    "thicket": (("foliage", "earth", "flowers"), ("ellipse", "blob", "disc", "strip"), (0.012, 0.30), "deep"),
    "pebbles": (("stone", "earth", "water"), ("blob", "ellipse", "disc"), (0.015, 0.22), "deep"),
    "landscape": (("foliage", "earth", "stone"), ("blob", "ellipse", "polygon"), (0.012, 0.28), "sky"),
    "street": (("stone", "painted", "earth"), ("box", "box", "polygon", "strip"), (0.015, 0.40), "sky"),
    "table": (("skin", "painted", "flowers"), ("disc", "ellipse", "box", "blob"), (0.05, 0.35), "wall"),
    "mixture": (tuple(PALETTES), ("disc", "ellipse", "polygon", "box", "blob", "strip"), (0.01, 0.40), "deep"),
}


def photographs() -> dict[str, torch.Tensor]:
    """The colour photographs inside the installed scikit-image and scikit-learn, name -> uint8 (3, H, W)."""
    pictures = {name: images.read(path) for name, path in _photograph_paths().items()}
    if not pictures:
        raise UserError("no photographs inside scikit-image or scikit-learn: reinstall them with pip, or set `data`")
    return pictures


def scenes(n: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """`n` generated scenes of `SIZES` in turn, name -> uint8 (3, H, W); kept in memory once made."""
    return {f"scene_{seed}_{index:03d}": _scene(index, seed) for index in range(n)}


def _photograph_paths() -> dict[str, Path]:
    paths = {}
    for name, (package, file) in PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)  # finds the folder without importing the package
        for folder in spec.submodule_search_locations or () if spec else ():
            if (path := Path(folder) / file).is_file():
                paths[name] = path
    return paths


@lru_cache(maxsize=256)
def _scene(index: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng([seed, index, 71])
    width, height = SIZES[index % len(SIZES)]
    names = list(COMPOSITIONS)
    palettes, shapes, radii, background = COMPOSITIONS[names[(index + index // len(SIZES)) % len(names)]]
    chosen = rng.choice(len(palettes), size=min(len(palettes), int(rng.integers(2, 4))), replace=False)
    colours = np.array([colour for i in chosen for colour in PALETTES[palettes[i]]], np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    light = np.array([math.cos(angle), math.sin(angle)], np.float32)

    canvas, horizon = _background(rng, background, colours, height, width)
    short = min(height, width)
    smallest, largest = radii[0] * short, radii[1] * short
    count = int(rng.integers(350, 700)) if background != "wall" else int(rng.integers(25, 60))
    # inverse of the distribution function of p(r) ~ r^-3 on [smallest, largest]; large ones lie behind, mostly
    u = rng.random(count)
    radius = (smallest**-2 - u * (smallest**-2 - largest**-2)) ** -0.5
    radius[: count // 12] = rng.uniform(0.4, 1.0, count // 12) * largest
    order = np.argsort(-radius * rng.lognormal(0, 0.5, count))
    for r in radius[order]:
        y = rng.uniform(horizon, 1.05) * height
        if horizon > 0:  # perspective: farther things are nearer to the horizon and smaller
            r = max(smallest * 0.7, r * (0.25 + 1.1 * (y / height - horizon) / (1 - horizon)))
        _leaf(rng, canvas, rng.uniform(-0.05, 1.05) * width, y, r, str(rng.choice(shapes)), colours, light)
    return _developed(rng, canvas)


def _background(rng, kind: str, colours: np.ndarray, height: int, width: int) -> tuple[np.ndarray, float]:
    """A linear-light canvas (3, H, W) and where the ground begins, as part of the height."""
    v = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    noise = _noise(rng, height, width, "soft")
    if kind == "sky":
        day = rng.random() < 0.7
        top, low = ((0.10, 0.25, 0.60), (0.55, 0.68, 0.80)) if day else ((0.30, 0.25, 0.35), (0.85, 0.55, 0.30))
        horizon = float(rng.uniform(0.25, 0.55))
        clouds = np.clip(noise * 0.5 + rng.uniform(-0.4, 0.3), 0, 1)
        sky = np.array(top, np.float32)[:, None, None] * (1 - v) + np.array(low, np.float32)[:, None, None] * v
        canvas = sky * (1 - clouds) + 0.85 * clouds
        ground = colours[rng.integers(len(colours))][:, None, None] * (0.5 + 0.5 * v) * np.exp(0.35 * noise)
        line = horizon + 0.03 * np.cumsum(rng.normal(0, 1, width)).astype(np.float32) / math.sqrt(width)
        return np.where(v[None] > line[None, None, :], ground, canvas), horizon
    base, other = colours[rng.integers(len(colours), size=2)][:, :, None, None]
    if kind == "wall":
        h = np.linspace(0, 1, width, dtype=np.float32)
        mix = np.clip(rng.uniform(-1, 1) * (h - 0.5) + rng.uniform(0.3, 1) * v, 0, 1)
        return (base * (1 - mix) + other * mix) * np.exp(0.12 * noise) + 0.02, 0.0
    return base * 0.4 * np.exp(0.5 * noise), 0.0


def _leaf(rng, canvas: np.ndarray, x: float, y: float, r: float, shape: str, colours: np.ndarray, light) -> None:
    """Paint one leaf over `canvas`, its soft shadow first."""
    _, height, width = canvas.shape
    long = 3.0 if shape == "strip" else 1.5
    reach = int(1.2 * r * long) + 4
    top, left = max(0, int(y) - reach), max(0, int(x) - reach)
    bottom, right = min(height, int(y) + reach), min(width, int(x) + reach)
    if bottom - top < 2 or right - left < 2:
        return
    dy = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)
    dx = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(x)
    turn = rng.normal(0, 0.04) if shape == "box" else rng.uniform(0, 2 * math.pi)
    cosine, sine = np.float32(math.cos(turn)), np.float32(math.sin(turn))
    p, q = cosine * dx + sine * dy, cosine * dy - sine * dx
    distance = _distance(rng, shape, p, q, np.float32(r))
    region = canvas[:, top:bottom, left:right]

    depth = np.float32(0.12 * r + 1)
    if r > 4:
        shifted = distance + light[0] * dx * 0.12 + light[1] * dy * 0.12
        region *= 1 - np.float32(rng.uniform(0.2, 0.55)) * np.clip(0.5 - (shifted - depth) / (2 * depth), 0, 1)
    # most edges are as sharp as a lens makes them; a few are out of focus
    softness = np.float32(0.6 if rng.random() < 0.85 else rng.uniform(1, 4))
    alpha = np.clip(0.5 - distance / (2 * softness), 0, 1)
    base = colours[rng.integers(len(colours))] * np.float32(rng.lognormal(0, 0.35))
    base = base * rng.lognormal(0, 0.12, 3).astype(np.float32)
    shade = 1 + np.float32(rng.uniform(0, 0.45)) * (light[0] * dx + light[1] * dy) / np.float32(r * long)
    if shape in ("disc", "ellipse", "blob") and rng.random() < 0.5:  # rounded bodies darken towards their rim
        shade = shade * (0.55 + 0.45 * np.clip(-distance / np.float32(0.6 * r), 0, 1))
    if r > 3:
        strength = rng.choice((0.05, 0.12, 0.25, 0.4), p=(0.25, 0.3, 0.3, 0.15))
        kind = str(rng.choice(("soft", "medium", "rough")))
        shade = shade * np.exp(np.float32(strength) * _noise(rng, bottom - top, right - left, kind))
    if r > 8 and rng.random() < 0.3:
        shade = shade * _grating(rng, p, q, r, square=shape == "box")
    np.clip(shade, 0.03, 3, out=shade)
    leaf = base[:, None, None] * shade
    if rng.random() < 0.08:  # a highlight
        away = (dx + light[0] * r * 0.3) ** 2 + (dy + light[1] * r * 0.3) ** 2
        leaf = leaf + np.float32(0.5) * np.exp(-away / np.float32(0.05 * r * r + 1))
    region += alpha * (leaf - region)


def _distance(rng, shape: str, p: np.ndarray, q: np.ndarray, r: np.float32) -> np.ndarray:
    """Signed distance to the outline in pixels (about), negative inside; p, q are coordinates on the leaf's axes."""
    if shape == "box":
        a, b = r * np.float32(rng.uniform(0.5, 1)), r * np.float32(rng.uniform(0.5, 1))
        return np.maximum(np.abs(p) - a, np.abs(q) - b)
    if shape == "strip":
        bend = np.float32(rng.normal(0, 0.15)) / r
        half_width = np.maximum(np.float32(0.7), r * np.float32(0.07))
        return np.maximum(np.abs(p) - 2.9 * r, np.abs(q + bend * p * p) - half_width)
    if shape == "polygon":
        angles = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 7))))
        sides = [np.float32(math.cos(t)) * p + np.float32(math.sin(t)) * q for t in angles]
        square = np.maximum(np.abs(p), np.abs(q)) - r * np.float32(1.2)
        return np.maximum.reduce([*(s - r * np.float32(0.75) for s in sides), square])
    squeeze = np.float32(rng.uniform(0.3, 0.8) if shape == "ellipse" else 1.0)
    length = np.sqrt(p * p + (q / squeeze) ** 2)
    if shape != "blob":
        return (length - r) * squeeze
    angle = np.arctan2(q, p)
    outline = np.ones_like(angle)
    for k in range(2, 7):
        outline += np.float32(rng.normal(0, 0.25 / k)) * np.cos(k * angle + np.float32(rng.uniform(0, 2 * math.pi)))
    return length - r * outline


def _grating(rng, p: np.ndarray, q: np.ndarray, r: float, square: bool) -> np.ndarray:
    """Stripes, or windows on boxes: (h, w) factors around 1; at least four pixels a period."""
    period = float(np.clip(r / rng.uniform(3, 12), 4, 40))
    contrast = np.float32(rng.uniform(0.15, 0.5))
    wave = np.sin(p * np.float32(2 * math.pi / period) + np.float32(rng.uniform(0, 6)))
    if square:
        wave = np.minimum(wave, np.sin(q * np.float32(2 * math.pi / (period * rng.uniform(0.7, 1.6)))))
    return 1 + contrast * np.clip(wave * 2.5, -1, 1)


@lru_cache(maxsize=1)
def _tiles() -> dict[str, np.ndarray]:
    """1/f^b noise fields (1024, 1024) of unit spread; crops of them are the textures."""
    rng = np.random.default_rng(20260)
    f = np.hypot(np.fft.fftfreq(1024)[:, None], np.fft.rfftfreq(1024)[None, :]).astype(np.float32)
    f[0, 0] = 1
    tiles = {}
    for name, slope in (("soft", 1.7), ("medium", 1.2), ("rough", 0.9)):
        spectrum = (rng.normal(size=f.shape) + 1j * rng.normal(size=f.shape)) * f**-slope
        spectrum[0, 0] = 0
        tile = np.fft.irfft2(spectrum, s=(1024, 1024)).astype(np.float32)
        tiles[name] = tile / tile.std()
    return tiles


def _noise(rng, height: int, width: int, kind: str) -> np.ndarray:
    top, left = rng.integers(0, 1024 - height), rng.integers(0, 1024 - width)
    crop = _tiles()[kind][top : top + height, left : left + width]
    return crop[:: int(rng.choice((-1, 1))), :: int(rng.choice((-1, 1)))]


def _developed(rng, canvas: np.ndarray) -> torch.Tensor:
    """Linear light -> the picture a camera would store: uneven light, exposure, colour of the light, sRGB, 8 bits."""
    _, height, width = canvas.shape
    canvas = canvas * np.exp(np.float32(0.25) * _noise(rng, height, width, "soft"))
    canvas = canvas * (1 + rng.normal(0, 0.06, 3).astype(np.float32))[:, None, None]
    low, high = np.percentile(canvas, (0.5, 99))
    canvas = np.clip((canvas - 0.8 * low) / (high - 0.8 * low) * rng.uniform(0.75, 1.0), 0, 1)
    encoded = np.where(canvas <= 0.0031308, 12.92 * canvas, 1.055 * np.maximum(canvas, 1e-6) ** (1 / 2.4) - 0.055)
    return torch.from_numpy(np.round(encoded * 255).astype(np.uint8))
