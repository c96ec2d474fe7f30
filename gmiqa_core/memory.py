"""Keep freed memory in the process: on a CPU, training steps free the same large blocks and ask for them again."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)


def keep_memory() -> bool:
    """Ask glibc to reuse large blocks in place of returning them to the system; True where it accepts that."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, 1 << 30))
