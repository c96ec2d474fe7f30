"""Files that no picture reader should meet, and what the score command gives for each.

    python tests/hostile.py          compare docs/hostile_inputs.md with what happens now
    python tests/hostile.py --write  write it anew
"""

import io
import os
import socket
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

DOCUMENT = Path(__file__).parents[1] / "docs" / "hostile_inputs.md"
INTRODUCTION = """# Hostile inputs

This page says what `gmiqa score FOLDER --recursive` does with files that are broken, foreign or made to do harm. Every
picture that can be decoded is scored. Every other file gets a row with the reason, and the exit code is then 3. Files
whose name promises no picture are left out. `python tests/hostile.py --write` writes this page, and the tests compare
it with what happens.

"""


@dataclass(frozen=True)
class Case:
    """A file to make: `make(path)` writes it; expected is `scored`, `refused` or `left out`."""

    what: str
    name: str | bytes
    make: Callable[[Path], object]
    expected: str


def picture(width: int = 40, height: int = 30, mode: str = "RGB") -> Image.Image:
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x * y) % 256], -1).astype(np.uint8)
    return Image.fromarray(rgb).convert(mode)


def encoded(format: str = "PNG", image: Image.Image | None = None, **options) -> bytes:
    file = io.BytesIO()
    (image or picture()).save(file, format, **options)
    return file.getvalue()


def saved(format: str = "PNG", image: Image.Image | None = None, **options) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(encoded(format, image, **options))


def content(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, before: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def jpeg_that_claims(width: int, height: int) -> bytes:
    data = bytearray(encoded("JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def oriented(orientation: int) -> Callable[[Path], object]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved("JPEG", exif=exif)


def animation() -> dict:
    return {"save_all": True, "append_images": [picture(40, 30).rotate(90 * i) for i in (1, 2)], "duration": 50}


def tiff_in_a_circle(path: Path) -> None:
    data = bytearray(encoded("TIFF"))
    at = struct.unpack("<I", data[4:8])[0]
    entries = struct.unpack("<H", data[at : at + 2])[0]
    data[at + 2 + 12 * entries : at + 6 + 12 * entries] = struct.pack("<I", at)
    path.write_bytes(data)


def locked(path: Path) -> None:
    path.write_bytes(encoded())
    path.chmod(0)


def a_socket(path: Path) -> None:
    folder = os.getcwd()
    os.chdir(path.parent)  # the names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(folder)


def png_text_bomb() -> bytes:
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 100_000_000, 9))
    return png(8, 8, 8, 2, b"\0" * 8 * 25, before=text)


def huge_text() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 500_000)
    return encoded("PNG", pnginfo=info)


JPEG, PNG = encoded("JPEG"), encoded("PNG")
NOISE = np.random.default_rng(0).integers(0, 256, 4000, dtype=np.uint8).tobytes()
CASES = (
    Case("an ordinary photograph, for comparison", "good.jpg", saved("JPEG"), "scored"),
    Case("JPEG cut in the middle", "cut.jpg", content(encoded("JPEG", picture(200, 200))[:2500]), "refused"),
    Case("JPEG cut after its header", "header_only.jpg", content(JPEG[:300]), "refused"),
    Case("PNG cut in the middle", "cut.png", content(encoded("PNG", picture(200, 200))[:2000]), "refused"),
    Case("GIF cut in the middle", "cut.gif", content(encoded("GIF")[:600]), "refused"),
    Case("WebP cut in the middle", "cut.webp", content(encoded("WEBP")[:200]), "refused"),
    Case("not a single byte", "empty.jpg", content(b""), "refused"),
    Case("a single byte", "one_byte.png", content(b"\xff"), "refused"),
    Case("zero bytes", "zeros.jpg", content(bytes(5000)), "refused"),
    Case("random bytes", "noise.jpg", content(NOISE), "refused"),
    Case("JPEG's first bytes, then noise", "noise_inside.jpg", content(b"\xff\xd8\xff\xe0" + NOISE), "refused"),
    Case("PNG's first bytes, then noise", "noise_inside.png", content(PNG[:8] + NOISE), "refused"),
    Case("text named like a JPEG", "text.jpg", content(b"Dear reader, this is no picture."), "refused"),
    Case("a web page named like a PNG", "page.png", content(b"<!doctype html><script>alert(1)</script>"), "refused"),
    Case("SVG named like a PNG", "vector.png", content(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "refused"),
    Case("PDF named like a JPEG", "document.jpg", content(b"%PDF-1.7\n" + NOISE), "refused"),
    Case("PostScript named like a JPEG (a decoder would run it)", "program.jpg",
         content(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (w) file\n"), "refused"),
    Case("zip archive named like a JPEG", "archive.jpg", content(b"PK\x03\x04" + NOISE), "refused"),
    Case("HEIC named like a JPEG", "phone.jpg", content(b"\0\0\0\x18ftypheic" + NOISE), "refused"),
    Case("HEIC with its own name", "phone.heic", content(b"\0\0\0\x18ftypheic" + NOISE), "refused"),
    Case("AVIF", "photo.avif", saved("AVIF"), "scored"),
    Case("AVIF cut in the middle", "cut.avif", content(encoded("AVIF")[:400]), "refused"),
    Case("AVIF's first bytes, then noise", "noise_inside.avif", content(encoded("AVIF")[:40] + NOISE), "refused"),
    Case("PNG named like a JPEG", "really_png.jpg", saved("PNG"), "scored"),
    Case("JPEG named like a PNG", "really_jpeg.png", saved("JPEG"), "scored"),
    Case("suffix in capitals", "LOUD.JPG", saved("JPEG"), "scored"),
    Case("picture without suffix", "no_suffix", saved("PNG"), "left out"),
    Case("hidden file of a file manager", "._good.jpg", content(NOISE), "left out"),
    Case("folder named like a JPEG", "folder.jpg", lambda path: path.mkdir(), "left out"),
    Case("folder named like a JPEG with a picture inside", "album.jpg/inside.png", saved("PNG"), "scored"),
    Case("link to a picture", "link.jpg", lambda path: path.symlink_to("good.jpg"), "scored"),
    Case("link to nothing", "dangling.jpg", lambda path: path.symlink_to("nothing.jpg"), "refused"),
    Case("link to itself", "itself.jpg", lambda path: path.symlink_to("itself.jpg"), "refused"),
    Case("two links in a circle", "circle.png",
         lambda path: (path.symlink_to("circle_too.png"), (path.parent / "circle_too.png").symlink_to("circle.png")),
         "refused"),
    Case("link to the folder above", "up", lambda path: path.symlink_to(".."), "left out"),
    Case("link to an endless device", "endless.jpg", lambda path: path.symlink_to("/dev/zero"), "refused"),
    Case("named pipe that nobody writes to", "pipe.jpg", lambda path: os.mkfifo(path), "refused"),
    Case("socket", "socket.jpg", a_socket, "refused"),
    Case("file without permission to read", "locked.png", locked, "scored" if os.geteuid() == 0 else "refused"),
    Case("CMYK JPEG", "cmyk.jpg", saved("JPEG", picture(mode="CMYK")), "scored"),
    Case("grey JPEG", "grey.jpg", saved("JPEG", picture(mode="L")), "scored"),
    Case("progressive JPEG", "progressive.jpg", saved("JPEG", progressive=True), "scored"),
    Case("16-bit grey PNG", "grey16.png",
         saved("PNG", Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50)), "scored"),
    Case("16-bit colour PNG", "colour16.png", content(png(4, 4, 16, 2, (b"\0" + bytes(range(24))) * 4)), "scored"),
    Case("1-bit PNG", "bits.png", saved("PNG", picture(mode="1")), "scored"),
    Case("palette with transparency", "palette.png", saved("PNG", picture(mode="P"), transparency=3), "scored"),
    Case("colours with transparency", "rgba.png", saved("PNG", picture(mode="RGBA")), "scored"),
    Case("grey with transparency", "la.png", saved("PNG", picture(mode="LA")), "scored"),
    Case("Lab TIFF", "lab.tif", saved("TIFF", picture(mode="LAB")), "scored"),
    Case("YCbCr TIFF", "ycbcr.tif", saved("TIFF", picture(mode="YCbCr")), "scored"),
    Case("TIFF of floats in 0..1", "floats.tif",
         saved("TIFF", Image.fromarray(np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40))), "scored"),
    Case("TIFF of floats beyond 1", "floats_beyond.tif",
         saved("TIFF", Image.fromarray(np.linspace(-9, 9, 1200, dtype=np.float32).reshape(30, 40))), "refused"),
    Case("TIFF of NaN", "nan.tif", saved("TIFF", Image.fromarray(np.full((30, 40), np.nan, np.float32))), "refused"),
    Case("TIFF of several pages: the first", "pages.tif", saved("TIFF", **animation()), "scored"),
    Case("TIFF whose directory links to itself", "circle.tif", tiff_in_a_circle, "scored"),
    Case("animated GIF: the first frame", "animated.gif", saved("GIF", **animation()), "scored"),
    Case("animated PNG: the first frame", "animated.png", saved("PNG", **animation()), "scored"),
    Case("animated WebP: the first frame", "animated.webp", saved("WEBP", **animation()), "scored"),
    Case("EXIF: lying on its side", "side.jpg", oriented(6), "scored"),
    Case("EXIF: orientation 99", "orientation99.jpg", oriented(99), "scored"),
    Case("EXIF block of noise", "exif_noise.jpg", saved("JPEG", exif=b"Exif\0\0" + NOISE[:500]), "scored"),
    Case("colour profile of noise", "profile.png", saved("PNG", icc_profile=NOISE), "scored"),
    Case("bomb: 0.3 MB that unpacks to 2.5 gigapixels", "bomb.png",
         lambda path: path.write_bytes(png(50_000, 50_000, 1, 0, bytes(6251) * 50_000)), "refused"),
    Case("bomb: JPEG that claims 4 gigapixels (decoded at 1/8)", "claims.jpg", content(jpeg_that_claims(65500, 65500)),
         "scored"),
    Case("bomb: comment that unpacks to 100 MB", "comment.png", content(png_text_bomb()), "refused"),
    Case("comment of 0.5 MB", "long_comment.png", content(huge_text()), "scored"),
    Case("PNG that claims a width of 0", "width0.png", content(png(0, 4, 8, 2, b"")), "refused"),
    Case("PNG with a wrong checksum", "checksum.png", content(PNG[:20] + b"\x01" + PNG[21:]), "refused"),
    Case("JPEG with a program appended", "polyglot.jpg", content(JPEG + b"#!/bin/sh\nrm -rf ~\n"), "scored"),
    Case("one pixel", "pixel.png", saved("PNG", picture(1, 1)), "scored"),
    Case("5,000 x 1 pixels", "line.png", saved("PNG", picture(5000, 1)), "scored"),
    Case("1 x 5,000 pixels", "column.png", saved("PNG", picture(1, 5000)), "scored"),
    Case("name: formula", "=HYPERLINK(1).png", saved("PNG"), "scored"),
    Case("name: formula with @", "@SUM(A1).png", saved("PNG"), "scored"),
    Case("name: option", "-rf.png", saved("PNG"), "scored"),
    Case("name: a newline", "new\nline.png", saved("PNG"), "scored"),
    Case("name: carriage return and tab", "\r\t.png", saved("PNG"), "scored"),
    Case("name: quotes, comma, semicolon", "a\"b',;.png", saved("PNG"), "scored"),
    Case("name: script", "<script>alert(1)<.png", saved("PNG"), "scored"),
    Case("name: other alphabets and an emoji", "фото 写真 🙂.png", saved("PNG"), "scored"),
    Case("name: written from right to left", "abc\u202egnp.png", saved("PNG"), "scored"),
    Case("name: terminal commands", "\x1b[31mred.png", saved("PNG"), "scored"),
    Case("name: not UTF-8", b"caf\xe9.png", saved("PNG"), "scored"),
    Case("name: a space", " .png", saved("PNG"), "scored"),
    Case("name: 255 bytes", "n" * 251 + ".png", saved("PNG"), "scored"),
)  # fmt: skip


def make(folder: Path) -> dict[str, Case]:
    """Write every case into a folder; path relative to it -> case."""
    made = {}
    for case in CASES:
        name = os.fsdecode(case.name)
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        case.make(path)
        made[name] = case
    return made


def outcomes(folder: Path, made: dict[str, Case], checkpoint: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Run the command on the folder: its exit code and, per case, its row (empty where the file was left out)."""
    from gmiqa.cli import main
    from gmiqa.score.folder import Table, row_of
    from gmiqa.score.result import Score

    table = folder.parent / "scores.csv"
    with redirect_stderr(io.StringIO()):
        arguments = ["--recursive", "--csv", str(table), "--checkpoint", checkpoint, "--device", "cpu"]
        code = main(["score", str(folder), *arguments])
    rows = {row["path"]: row for row in Table(table).open()}
    by_name = {}
    for name in made:
        by_name[name] = rows.get(row_of(Score(path=str(folder / name)))["path"], {})
    return code, by_name


def outcome(row: dict[str, str]) -> str:
    if not row:
        return "left out"
    return "refused" if row["error"] else "scored"


def document(folder: Path, made: dict[str, Case], rows: dict[str, dict[str, str]]) -> str:
    """The page: one line per case."""
    lines = [INTRODUCTION + "| input | file name | outcome | reason given |", "|---|---|---|---|"]
    for name, case in made.items():
        row = rows[name]
        given, reason = outcome(row), row.get("error", "").replace(str(folder), "FOLDER").replace("|", "\\|")
        if case.name == "locked.png":
            given, reason = "refused (root may read it: scored)", ""
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in shown).replace("|", "\\|")
        shown = shown if len(shown) < 40 else f"{shown[:12]}…{shown[-6:]}"
        lines.append(f"| {case.what} | `{shown}` | {given} | {reason} |")
    return "\n".join(lines) + "\n"


def run(folder: Path) -> tuple[int, dict[str, Case], dict[str, dict[str, str]], str]:
    """Make everything in an empty folder, score it with an untrained model: exit code, cases, rows, page."""
    from gmiqa.release.export import to_onnx
    from gmiqa.torch_engine import NAMES
    from gmiqa_core import network

    checkpoint = folder / "model.onnx"
    checkpoint.write_bytes(to_onnx(network.build("tiny"), {"names": NAMES, "max_side": 96}))
    pictures = folder / "pictures"
    pictures.mkdir()
    made = make(pictures)
    code, rows = outcomes(pictures, made, str(checkpoint))
    return code, made, rows, document(pictures, made, rows)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        *_, page = run(Path(name))
    if "--write" in sys.argv:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(page, encoding="utf-8")
    elif DOCUMENT.read_text(encoding="utf-8") != page:
        sys.exit(f"{DOCUMENT} differs from what happens: python tests/hostile.py --write")
