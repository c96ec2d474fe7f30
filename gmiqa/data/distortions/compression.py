"""Types 9 and 10: JPEG2000 and JPEG, through Pillow's own codecs."""

import io
import threading

from PIL import Image
from torch import Tensor

from gmiqa.data.distortions import codec_process
from gmiqa.data.distortions.codecs import through_pillow


def jpeg2000(x: Tensor, ratio: float) -> Tensor:
    """Irreversible wavelet, compressed by that ratio. Short sides allow fewer resolutions."""
    resolutions = max(1, min(6, min(x.shape[-2:]).bit_length() - 1))
    alone = threading.current_thread() is threading.main_thread()
    codec = codec_process.through_jpeg2000 if alone else codec_process.elsewhere
    return through_pillow(x, lambda image: codec(image, ratio, resolutions))


def jpeg(x: Tensor, quality: float) -> Tensor:
    """Baseline JPEG with 4:2:0 colour, the default of libjpeg and of MATLAB's imwrite."""

    def codec(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=int(quality), subsampling="4:2:0")
        return Image.open(buffer)

    return through_pillow(x, codec)
