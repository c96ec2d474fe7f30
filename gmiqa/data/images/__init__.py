"""Pictures in and out, as RGB uint8 tensors (3, H, W): gmiqa.data.pixels says what is read and how."""

from gmiqa.data.images.stream import Decoded, read_all
from gmiqa.data.images.tensors import encode, from_any, from_pil, limit, read, to_pil, to_uint8, write
from gmiqa.data.pixels import MEMORY, SUFFIXES, WHOLE_PIXELS, ImageError, Source, ahead, files, size
from gmiqa_core.batch import to_float

__all__ = ["MEMORY", "SUFFIXES", "WHOLE_PIXELS", "Decoded", "ImageError", "Source", "ahead", "encode", "files",
           "from_any", "from_pil", "limit", "read", "read_all", "size", "to_float", "to_pil", "to_uint8", "write"]
