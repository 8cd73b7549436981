"""Sharing the extents of a file instead of copying its bytes, where the file system can."""

from __future__ import annotations

try:
    import fcntl
except ImportError:  # Windows has neither reflinks by ioctl nor this module
    fcntl = None  # type: ignore[assignment]

FICLONE = 0x40049409  # linux/fs.h: share the extents of another file (btrfs, xfs, bcachefs)


def clone(source_fd: int, target_fd: int) -> bool:
    """Make the open, empty target a reflink of the source; False where that cannot be done."""
    if fcntl is None:
        return False
    try:
        fcntl.ioctl(target_fd, FICLONE, source_fd)
    except OSError:
        return False
    return True
