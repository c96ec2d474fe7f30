"""KADID-10k's 25 distortions at 5 levels, batched, on any device, reproducible image by image.

    from gmiqa.data.distortions import distort
    blurred = distort(images, "lens_blur", level=3)
"""

from gmiqa.data.distortions.apply import LEVELS, checksum, distort, every_level, stretch_range
from gmiqa.data.distortions.table import GROUPS, TYPES, Type, type_id

__all__ = ["GROUPS", "LEVELS", "TYPES", "Type", "checksum", "distort", "every_level", "stretch_range", "type_id"]
