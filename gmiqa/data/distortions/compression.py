"""Types 9 and 10: JPEG2000 and JPEG, through Pillow's own codecs."""

import io

from PIL import Image
from torch import Tensor

from gmiqa.data.distortions.codecs import through_pillow


def _round_trip(x: Tensor, **options: object) -> Tensor:
    def codec(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, **options)  # type: ignore[arg-type]
        return Image.open(buffer)

    return through_pillow(x, codec)


def jpeg2000(x: Tensor, ratio: float) -> Tensor:
    """Irreversible wavelet, compressed by that ratio. Short sides allow fewer resolutions."""
    levels = max(1, min(6, min(x.shape[-2:]).bit_length() - 1))
    return _round_trip(
        x, format="JPEG2000", quality_mode="rates", quality_layers=[ratio], irreversible=True, num_resolutions=levels
    )


def jpeg(x: Tensor, quality: float) -> Tensor:
    """Baseline JPEG with 4:2:0 colour, the default of libjpeg and of MATLAB's imwrite."""
    return _round_trip(x, format="JPEG", quality=int(quality), subsampling="4:2:0")
