"""What people look at: one file per topic; ``style`` holds the look that all of them share."""

from gmiqa.figures.style import GROUP_COLOURS, PALETTE, save, style

__all__ = ["GROUP_COLOURS", "PALETTE", "save", "style"]
