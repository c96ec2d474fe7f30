"""No-reference image quality assessment: GMIQA and MetaQAP as reproducible notebooks."""

__version__ = "0.1.0"
