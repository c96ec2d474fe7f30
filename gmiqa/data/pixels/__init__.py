"""Pictures in and out, as arrays: whatever a user has becomes RGB uint8 (3, H, W), or one line says why it cannot.

These are read: JPEG (MPO too), PNG, BMP, WebP, TIFF, GIF, AVIF (where Pillow has its decoder) and PNM, of which the
first frame; EXIF orientation; alpha, which is laid on white; palettes; CMYK; 16-bit and float samples; grey; a single
pixel. Colour profiles are not applied: samples are read as sRGB. Only these decoders are ever tried, so a file's name
or content cannot reach any other.

Very large pictures: up to `WHOLE_PIXELS` a picture is decoded as it is, so every route gives the same samples. Above
that a JPEG is decoded at 1/2, 1/4 or 1/8 scale by its own transform and other formats are reduced strip by strip after
decoding; what would need more than `MEMORY` bytes to decode is refused with the reason. `size` tells the true size.

Nothing here loads torch; gmiqa.data.images gives the same as tensors.
"""

from gmiqa.data.pixels.convert import ImageError, limit, to_pil, to_uint8
from gmiqa.data.pixels.decode import MEMORY, WHOLE_PIXELS, Source, from_any, from_pil, read, size
from gmiqa.data.pixels.output import SUFFIXES, encode, files, write
from gmiqa.data.pixels.stream import ahead

__all__ = ["MEMORY", "SUFFIXES", "WHOLE_PIXELS", "ImageError", "Source", "ahead", "encode", "files", "from_any",
           "from_pil", "limit", "read", "size", "to_pil", "to_uint8", "write"]
