import contextlib
import io
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, features

from gmiqa.data import images
from gmiqa.data.images import ImageError


def picture(height=20, width=30, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def saved(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def samples(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats_give_the_same_samples(format):
    original = picture()
    data = saved(original, format, **({"lossless": True} if format == "WEBP" else {}))
    assert torch.equal(images.read(data), samples(original))
    assert images.size(data) == (30, 20)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "GIF", "AVIF"])
def test_lossy_formats_are_close(format):
    original = picture()
    error = (images.read(saved(original, format)).float() - samples(original)).abs().mean()
    assert error < 12


def test_path_bytes_and_file_object_agree(tmp_path):
    path = tmp_path / "näme with (spaces).png"
    path.write_bytes(saved(picture(), "PNG"))
    expected = images.read(path.read_bytes())
    assert torch.equal(images.read(path), expected) and torch.equal(images.read(str(path)), expected)
    with path.open("rb") as file:
        assert torch.equal(images.read(file), expected)
        assert torch.equal(images.read(file), expected), "a second read starts at the beginning again"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_exif_orientation_is_applied(format, orientation):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = (255, 0, 0)  # red in the upper left of a wide picture
    inverse = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
               5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
               8: lambda a: np.rot90(a, -1)}  # fmt: skip
    stored = Image.fromarray(np.ascontiguousarray(inverse[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(stored, format, exif=exif, **({"quality": 95} if format == "JPEG" else {}))
    result = images.read(data)
    assert result.shape == (3, 16, 32) and images.size(data) == (32, 16)
    assert result[0, 2:6, 2:12].min() > 180 and result[0, 10:, 20:].max() < 70


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_an_orientation_that_does_not_exist_turns_nothing(format):
    exif = Image.Exif()
    exif[0x0112] = 99
    data = saved(picture(20, 30), format, exif=exif)
    assert images.size(data) == (30, 20) and images.read(data).shape == (3, 20, 30)


def test_alpha_is_laid_on_white():
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert images.read(saved(clear, "PNG")).min() == 255
    assert abs(int(images.read(saved(half, "PNG"))[0, 0, 0]) - 127) <= 1
    assert images.read(saved(Image.new("LA", (4, 4), (0, 0)), "PNG")).min() == 255
    paletted = Image.new("P", (4, 4), 0)
    paletted.putpalette([0, 0, 0, 255, 0, 0])
    assert images.read(saved(paletted, "PNG", transparency=0)).min() == 255


def test_palette_cmyk_grey_bilevel_and_one_pixel():
    assert images.read(saved(picture().convert("P"), "GIF")).shape == (3, 20, 30)
    cyan = images.read(saved(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", quality=95))
    assert cyan[0].max() < 40 and cyan[1:].min() > 215
    grey = images.read(saved(picture().convert("L"), "PNG"))
    assert torch.equal(grey[0], grey[1]) and torch.equal(grey[0], grey[2])
    assert set(images.read(saved(picture().convert("1"), "PNG")).unique().tolist()) <= {0, 255}
    assert images.read(saved(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")).flatten().tolist() == [1, 2, 3]


def test_sixteen_bit_and_float_samples():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for format in ("PNG", "TIFF"):
        result = images.read(saved(Image.fromarray(ramp), format))
        assert torch.equal(result[0].flatten(), torch.arange(256, dtype=torch.uint8))
    clear = saved(Image.fromarray(ramp), "PNG", transparency=12345)
    assert b"tRNS" in clear and torch.equal(images.read(clear)[0].flatten(), torch.arange(256, dtype=torch.uint8))
    unit = Image.fromarray(np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16))
    assert torch.equal(images.read(saved(unit, "TIFF"))[0].flatten(), torch.arange(256, dtype=torch.uint8))
    with pytest.raises(ImageError, match=r"neither 16-bit integers nor floats in \[0, 1\]"):
        images.read(saved(Image.fromarray(np.full((4, 4), 7.0, np.float32)), "TIFF"))


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert images.read(data)[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(("data", "reason"), [
    (b"", "empty"),
    (b"hello, this is a text file", "no picture of a known format"),
    (b"\x00\x00\x00\x18ftypheic0000", "HEIC"),
    (b"\xff\xd8\xff\xe0" + bytes(60), "damaged"),
    (b"\x89PNG\r\n\x1a\n" + bytes(60), "damaged"),
    (b"%!PS-Adobe-3.0 EPSF", "known format"),
])  # fmt: skip
def test_what_is_no_picture_is_refused_with_the_reason(tmp_path, data, reason):
    path = tmp_path / "odd.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=reason) as caught:
        images.read(path)
    assert "odd.jpg" in str(caught.value)


def test_missing_files_folders_and_wrong_sources_are_named(tmp_path):
    with pytest.raises(ImageError, match="nowhere.png: no such file"):
        images.read(tmp_path / "nowhere.png")
    with pytest.raises(ImageError, match="it is a folder"):
        images.read(tmp_path)
    with pytest.raises(ImageError, match="expected a path"):
        images.read(3.14)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "AVIF"])
def test_cut_files_never_end_in_another_exception(format):
    data = saved(picture(64, 64), format)
    for keep in range(1, len(data), max(1, len(data) // 40)):
        try:
            images.read(data[:keep])
        except ImageError as error:
            assert "the given bytes" in str(error)


def test_flipped_bytes_never_end_in_another_exception():
    rng = np.random.default_rng(0)
    for format in ("JPEG", "PNG", "TIFF", "GIF", "WEBP", "BMP", "AVIF"):
        data = np.frombuffer(saved(picture(24, 24), format), np.uint8)
        for _ in range(40):
            damaged = data.copy()
            damaged[rng.integers(4, len(data), 4)] = rng.integers(0, 256, 4)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with contextlib.suppress(ImageError):
                    images.read(damaged.tobytes())


def test_without_its_decoder_avif_is_refused_by_name(monkeypatch):
    data = saved(picture(), "AVIF")
    monkeypatch.setattr(features, "check", lambda name: name != "avif")
    with pytest.raises(ImageError, match="this Pillow has no AVIF decoder"):
        images.read(data)


def test_arrays_are_read_without_torch_and_equal_the_tensors():
    data = saved(picture(), "JPEG")
    code = ("import sys; sys.modules['torch'] = None\nfrom gmiqa.data import pixels\n"
            "sys.stdout.buffer.write(pixels.read(sys.stdin.buffer.read(), 16).tobytes())")
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert done.stdout == images.read(data, 16).numpy().tobytes()


HUGE = """
import sys
from gmiqa.data import images
def peak(): return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1e3
images.read(sys.argv[1], 16)  # loads the decoders, which is not what a picture costs
before = peak()
for path in sys.argv[2:]:
    for side in (1024, None):
        image = images.read(path, side)
        print(*images.size(path), *image.shape[1:], int(image[1].float().mean()), peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_huge_pictures_are_read_in_bounded_memory(tmp_path):
    jpeg, png = tmp_path / "huge.jpg", tmp_path / "huge.png"
    Image.new("L", (10000, 10000), 77).save(jpeg)
    Image.new("L", (7000, 7000), 77).save(png, compress_level=1)
    picture(40, 60).save(tmp_path / "small.jpg")
    command = [sys.executable, "-c", HUGE, str(tmp_path / "small.jpg"), str(jpeg), str(png)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = [(10000, 1024, 100), (10000, 5000, 350), (7000, 1024, 350), (7000, 3500, 350)]
    for line, (side, result, megabytes) in zip(done.stdout.splitlines(), expected, strict=True):
        assert [float(word) for word in line.split()[:5]] == [side, side, result, result, 77]
        assert float(line.split()[5]) < megabytes


def test_what_would_exhaust_the_memory_is_refused_with_its_size():
    # a PNG header that claims 60,000 x 60,000 pixels
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match=r"60000 x 60000 pixels .* would take 14.4 GB"):
        images.read(bomb)
    assert images.size(bomb) == (60000, 60000)


def test_limit_is_an_area_average_and_leaves_small_pictures_alone():
    image = samples(picture(40, 60)).contiguous()
    assert images.limit(image, 60) is image
    half = images.limit(image, 30)
    expected = image.float().unfold(1, 2, 2).unfold(2, 2, 2).mean((-1, -2))
    assert half.shape == (3, 20, 30) and (half.float() - expected).abs().max() <= 1
    assert torch.allclose(images.limit(image.float() / 255, 30) * 255, expected, atol=1e-3)
    assert images.limit(torch.zeros(3, 1, 500, dtype=torch.uint8), 100).shape == (3, 1, 100)


def test_max_side_equals_limit_of_the_whole_picture():
    data = saved(picture(300, 200), "JPEG")
    assert torch.equal(images.read(data, 128), images.limit(images.read(data), 128))


def test_from_any_takes_every_layout():
    original = picture()
    array, chw = np.array(original), samples(original)
    same = [original, array, chw, array.transpose(2, 0, 1), torch.from_numpy(array), chw[None], array.astype(np.int64),
            (array.astype(np.uint16) * 257), saved(original, "PNG")]  # fmt: skip
    for x in same:
        assert torch.equal(images.from_any(x), chw)
    for x in (array / 255.0, chw.float() / 255, (chw.double() / 255)[None]):
        result = images.from_any(x)
        assert result.dtype == torch.float32 and torch.allclose(result * 255, chw.float(), atol=1e-3)
    assert images.from_any(array[..., 0]).shape == (3, 20, 30)
    rgba = np.dstack([array, np.zeros((20, 30), np.uint8)])
    assert images.from_any(rgba).min() == 255
    assert images.from_any(original, max_side=15).shape == (3, 10, 15)


NO_PICTURES = [np.full((4, 4), np.nan), np.full((4, 4, 3), 2.0), np.full((4, 4), -1), np.zeros((5, 5, 7)),
               np.zeros((0, 4, 3)), np.array([["a"]]), torch.zeros(2, 3, 4, 4)]  # fmt: skip


@pytest.mark.parametrize("x", NO_PICTURES)
def test_from_any_refuses_what_is_no_picture(x):
    with pytest.raises(ImageError):
        images.from_any(x)


def test_inputs_are_never_changed():
    array = np.array(picture())
    before = array.copy()
    result = images.from_any(array)
    result += 1
    tensor = torch.rand(3, 20, 30)
    kept = tensor.clone()
    images.from_any(tensor).mul_(0)
    assert (array == before).all() and torch.equal(tensor, kept)


def test_written_pictures_come_back(tmp_path):
    image = samples(picture()).contiguous()
    for suffix in ("png", "bmp", "tiff"):
        path = images.write(image, tmp_path / f"a.{suffix}")
        assert torch.equal(images.read(path), image)
    assert torch.equal(images.read(images.encode(image.float() / 255)), image)
    assert len(images.encode(image, "jpg", quality=10)) < len(images.encode(image, "jpg", quality=95))
    assert images.files(tmp_path) == sorted(tmp_path.iterdir())
    with pytest.raises(ImageError, match="cannot write pictures as"):
        images.write(image, tmp_path / "a.xyz")
