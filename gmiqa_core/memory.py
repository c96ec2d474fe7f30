"""Keep freed memory in the process: on a CPU a training step frees and asks again for the same large blocks."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)


def keep_memory() -> bool:
    """Ask glibc to reuse large blocks in place of returning them to the system and faulting them in again page by
    page. True where it was understood; elsewhere nothing changes."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, 1 << 30))
