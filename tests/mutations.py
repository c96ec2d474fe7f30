"""Pictures with a few bytes changed, a pure function of a seed.

    python tests/mutations.py [COUNT [OPTION...]]   score so many (2,000) with the command, and say what came of them
"""

import io
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

FORMATS = {"jpg": ("JPEG", {}), "png": ("PNG", {}), "webp": ("WEBP", {}), "tif": ("TIFF", {"compression": "tiff_lzw"}),
           "jpeg": ("JPEG", {"progressive": True}), "tiff": ("TIFF", {"compression": "jpeg"})}  # fmt: skip


def originals() -> dict[str, bytes]:
    """A small picture in every format, by suffix."""
    y, x = np.mgrid[:48, :64]
    picture = Image.fromarray(np.stack([4 * x, 5 * y, (x * y) % 256], -1).astype(np.uint8))
    data = {}
    for suffix, (format, options) in FORMATS.items():
        file = io.BytesIO()
        picture.save(file, format, **options)
        data[suffix] = file.getvalue()
    return data


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes replaced, anywhere or in the header; or a piece cut out, doubled or zeroed; or the end cut off."""
    data, kind = bytearray(data), rng.integers(7)
    start, length = int(rng.integers(len(data))), int(rng.integers(1, 64))
    if kind <= 2:
        end = len(data) if kind else min(96, len(data))
        for place in rng.integers(0, end, rng.integers(1, 9)):
            data[place] = rng.integers(256)
    elif kind == 3:
        del data[start : start + length]
    elif kind == 4:
        data[start:start] = data[start : start + length]
    elif kind == 5:
        data[start : start + length] = bytes(len(data[start : start + length]))
    else:
        del data[start:]
    return bytes(data)


def mutations(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """(file name, content) of `count` pictures, the formats in turn."""
    sources = list(originals().items())
    for number in range(count):
        suffix, data = sources[number % len(sources)]
        yield f"{number:05d}.{suffix}", mutated(data, np.random.default_rng((seed, number)))


def main(count: int, options: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "pictures")
        folder.mkdir()
        for file, data in mutations(count):
            (folder / file).write_bytes(data)
        began = time.monotonic()
        table = Path(name, "scores.csv")
        done = subprocess.run([sys.executable, "-m", "gmiqa", "score", str(folder), "--csv", str(table), *options],
                              capture_output=True, text=True, timeout=3600)
        rows = table.read_text(encoding="utf-8").splitlines()[1:]
    outcome = Counter("scored" if row.endswith(",") else "refused" for row in rows)
    print(f"{count} mutated pictures: exit code {done.returncode}, {len(rows)} rows, {dict(outcome)}, "
          f"{done.stderr.count('Traceback')} tracebacks, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000, sys.argv[2:])
