"""What people thought: KADID-10k's human scores per distortion type and level, as quality in [0,1], higher is better.

Source: the 10,125 published scores of KADID-10k (Lin, Hosu and Saupe, QoMEX 2019), averaged over its 81 contents for
each of the 25 x 5 cells; scale 1 (very annoying) .. 5 (imperceptible). The cell means explain 89 % of the variance of
the scores. They belong to whole pictures of 512x384 after the generator's stretch.
"""

import numpy as np
import torch

# Rows: types 1..25; columns: levels 1..5.
MEAN = (
    (4.6122, 4.3817, 2.9111, 1.873, 1.3027),  # 1
    (3.8625, 2.6536, 1.7558, 1.4419, 1.2991),  # 2
    (4.6041, 4.0952, 2.8479, 2.1751, 1.6679),  # 3
    (4.4951, 2.602, 1.7559, 1.6052, 1.3938),  # 4
    (4.2267, 2.5454, 1.9163, 1.8537, 1.8638),  # 5
    (4.1081, 3.9733, 3.7186, 3.2028, 2.4249),  # 6
    (2.7463, 2.3346, 2.262, 2.2435, 2.0274),  # 7
    (4.5798, 3.3305, 2.6484, 1.8156, 1.5249),  # 8
    (4.5531, 4.2047, 3.8733, 2.4448, 1.3938),  # 9
    (4.338, 4.2456, 3.8658, 1.9454, 1.3502),  # 10
    (3.8932, 3.3904, 3.0451, 2.7096, 2.3007),  # 11
    (4.4684, 3.6825, 3.17, 2.6872, 2.3799),  # 12
    (3.5838, 2.9304, 2.6126, 2.3123, 2.1319),  # 13
    (4.4044, 3.5815, 3.0842, 2.6394, 2.1173),  # 14
    (3.6677, 2.7272, 2.2027, 1.6549, 1.4665),  # 15
    (4.5057, 4.2875, 3.6323, 2.7009, 1.8093),  # 16
    (4.6004, 4.5275, 4.2309, 3.5349, 2.221),  # 17
    (4.218, 4.5188, 4.603, 4.3695, 3.9033),  # 18
    (4.4194, 4.0864, 3.2352, 1.8485, 1.3386),  # 19
    (4.3333, 3.9379, 3.7726, 3.4644, 3.2612),  # 20
    (3.8891, 3.0983, 2.8998, 2.7943, 1.4957),  # 21
    (4.1685, 3.9335, 3.6859, 3.3728, 2.799),  # 22
    (2.687, 2.359, 2.2995, 2.1262, 2.0352),  # 23
    (3.579, 2.6359, 2.1364, 1.6133, 1.3359),  # 24
    (3.4194, 3.8584, 4.2901, 4.1415, 3.3238),  # 25
)
STD = (
    (0.1304, 0.2205, 0.4279, 0.2744, 0.1394),  # 1
    (0.3614, 0.4063, 0.2475, 0.1704, 0.1463),  # 2
    (0.1291, 0.3428, 0.4342, 0.3512, 0.2613),  # 3
    (0.1822, 0.4277, 0.3693, 0.3645, 0.2961),  # 4
    (0.3964, 0.5225, 0.4021, 0.4528, 0.5018),  # 5
    (0.3107, 0.3481, 0.3969, 0.411, 0.4042),  # 6
    (0.3188, 0.2732, 0.3152, 0.2611, 0.3077),  # 7
    (0.1365, 0.3682, 0.4415, 0.3833, 0.3115),  # 8
    (0.1647, 0.4511, 0.6107, 0.684, 0.2549),  # 9
    (0.2223, 0.2295, 0.3077, 0.3245, 0.1822),  # 10
    (0.3651, 0.4153, 0.3656, 0.3175, 0.2698),  # 11
    (0.1967, 0.4067, 0.4166, 0.3221, 0.2913),  # 12
    (0.3842, 0.3168, 0.239, 0.2027, 0.182),  # 13
    (0.2652, 0.4935, 0.4955, 0.4309, 0.3458),  # 14
    (0.3284, 0.3882, 0.3517, 0.2377, 0.1756),  # 15
    (0.1584, 0.2294, 0.335, 0.467, 0.378),  # 16
    (0.1299, 0.1424, 0.2252, 0.293, 0.4066),  # 17
    (0.2969, 0.1777, 0.1364, 0.1939, 0.2959),  # 18
    (0.2007, 0.2907, 0.455, 0.3229, 0.1677),  # 19
    (0.3119, 0.4994, 0.5519, 0.6435, 0.6548),  # 20
    (0.452, 0.4786, 0.4476, 0.4955, 0.2601),  # 21
    (0.4538, 0.5898, 0.5851, 0.6405, 0.6789),  # 22
    (0.3904, 0.2973, 0.2564, 0.2336, 0.2292),  # 23
    (0.4109, 0.4365, 0.3664, 0.2481, 0.1595),  # 24
    (0.3441, 0.2764, 0.2494, 0.2747, 0.3761),  # 25
)

QUALITY = (torch.tensor(MEAN) - 1) / 4
"""(25,5) mean quality in [0,1]."""

SPREAD = torch.tensor(STD) / 4
"""(25,5) standard deviation of the quality over contents."""

UNORDERED = (18, 25)
"""Types whose levels run from one sign of the parameter to the other: their level is no order of severity."""

_IDENTITIES = ((1, 1), (3, 1), (8, 1), (18, 3))


def _column(table: torch.Tensor) -> np.ndarray:
    """(26,6) with type and level as indices; 0, 0 is undistorted: the mean of the four identity cells, as KADID-10k has
    no score of an untouched picture."""
    full = np.zeros((26, 6))
    full[1:, 1:] = table.numpy()
    full[0, 0] = np.mean([full[cell] for cell in _IDENTITIES])
    return full


def quality(type: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Mean quality of each (type, level); type 0 at level 0 is an undistorted picture."""
    return _column(QUALITY)[type, level]


def spread(type: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Its standard deviation, likewise."""
    return _column(SPREAD)[type, level]
