"""No-reference image quality assessment: GMIQA and MetaQAP as reproducible notebooks."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmiqa.score import Score, Scorer

__version__ = "0.1.0"
__all__ = ["Score", "Scorer"]


def __getattr__(name: str) -> Any:
    # Scorer loads NumPy and Pillow; `import gmiqa` alone stays quick.
    if name in __all__:
        from gmiqa import score

        return getattr(score, name)
    raise AttributeError(f"module 'gmiqa' has no attribute {name!r}")
