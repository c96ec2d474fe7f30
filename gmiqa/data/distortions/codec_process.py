"""JPEG2000 in a process of its own, for threads that work beside others: Pillow's encoder keeps the interpreter to
itself, tens of milliseconds a picture, and meanwhile no other thread of Python runs.

Run as a program, this file needs Pillow alone: a line `height width ratio resolutions` and the RGB bytes come in, the
RGB bytes of the decoded picture go out.
"""

import atexit
import contextlib
import io
import os
import subprocess
import sys

from PIL import Image


def through_jpeg2000(image: Image.Image, ratio: float, resolutions: int) -> Image.Image:
    """Irreversible wavelet, compressed by that ratio, and back."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG2000", quality_mode="rates", quality_layers=[ratio], irreversible=True,
               num_resolutions=resolutions)
    return Image.open(buffer).convert("RGB")


def serve() -> None:
    enter, leave = sys.stdin.buffer, sys.stdout.buffer
    while line := enter.readline():
        height, width, ratio, resolutions = line.split()
        size = int(width), int(height)
        image = Image.frombytes("RGB", size, enter.read(3 * size[0] * size[1]))
        leave.write(through_jpeg2000(image, float(ratio), int(resolutions)).tobytes())
        leave.flush()


_idle: list[subprocess.Popen] = []  # processes that wait for a picture; a new one starts when all are at work


def elsewhere(image: Image.Image, ratio: float, resolutions: int) -> Image.Image:
    """The same in another process; here, if none can be had or it was killed."""
    process = None
    try:
        process = _take()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{image.height} {image.width} {ratio!r} {resolutions}\n".encode() + image.tobytes())
        process.stdin.flush()
        result = Image.frombytes("RGB", image.size, process.stdout.read(3 * image.width * image.height))
    except (OSError, ValueError):
        if process is not None:
            process.kill()
        return through_jpeg2000(image, ratio, resolutions)
    _idle.append(process)
    return result


def _take() -> subprocess.Popen:
    try:
        return _idle.pop()
    except IndexError:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.Popen([sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, env=environment)


@atexit.register
def _end() -> None:
    while _idle:
        process = _idle.pop()
        with contextlib.suppress(OSError):
            process.communicate()  # its input ends, and so does it


# A forked process must not talk to those of its parent.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)

if __name__ == "__main__":
    serve()
