"""Names that parameters take and that rooms above this one define: a test compares the two.

Settings stand below those rooms and import none of them, so a command refuses a wrong name without loading torch.
"""

DISTORTIONS = (
    "gaussian_blur", "lens_blur", "motion_blur", "colour_diffusion", "colour_shift", "colour_quantisation",
    "saturation_hsv", "saturation_lab", "jpeg2000", "jpeg", "white_noise", "white_noise_colour", "impulse_noise",
    "multiplicative_noise", "denoise_dct", "brighten", "darken", "mean_shift", "jitter", "non_eccentricity_patches",
    "pixelate", "quantisation", "colour_blocks", "high_sharpen", "contrast_change")
BASELINES = (
    "mean", "file_size", "brightness", "sharpness", "niqe", "brisque_svr", "nss_svr", "cnniqa", "resnet",
    "image-quality-ai", "capturetrust", "pyiqa:METRIC")
ABLATION_ROWS = (
    "BL", "DGR", "SC", "Meta", "full", "no_DGR", "no_SC", "no_Meta", "SC_only", "Meta_only", "DGR_only", "none",
    "plain_Meta", "plain_DGR", "whole", "V_only", "V_MLP", "depth_1", "depth_5")
BASE_NETWORKS = ("small", "lite0", "lite1", "lite2", "resnet50", "densenet201", "mobilenet_v2", "mobilenet_v3",
                 "efficientnet_b0", "timm:NAME")
SPLITS = (*map(str, range(10)), "official")
DEVICES = ("auto", "cpu", "cuda", "cuda:N")
