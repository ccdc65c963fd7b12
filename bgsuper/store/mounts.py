"""On which file system a store lies, and that it is not one whose locks prove nothing.

The writer lock is a flock. On a file system that other machines reach, it may be kept by one machine for itself
(`local_lock`, sshfs), or be lost with a lease while its holder lives (NFS): two writers, and a store that is neither's.
That cannot be tried out from one machine, so such file systems are refused by their type. 9p is not among them:
sandboxes (gVisor) call their local disks so.

Linux only: elsewhere nothing is known, and nothing refused.
"""

from __future__ import annotations

import os
import re
from typing import Final

from ..errors import StoreUnwritable
from .failures import from_os_error

#: By the types that /proc/self/mountinfo gives them.
REMOTE: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ncpfs", "coda", "davfs"}
    | {f"fuse.{name}" for name in ("sshfs", "rclone", "s3fs", "gcsfuse", "goofys", "davfs2", "curlftpfs", "smbnetfs")}
)
_MOUNT_ID = re.compile(r"^mnt_id:\s*(\d+)$", re.MULTILINE)


def file_system_type(directory: str) -> str | None:
    """The type of the file system that `directory` is on, such as "ext4"; None where that cannot be told.

    Raises `StoreUnwritable`.
    """
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise from_os_error(error, f"opening {directory}") from error
    try:
        # By the mount's id: paths and device numbers are not unique.
        with open(f"/proc/self/fdinfo/{fd}") as fdinfo, open("/proc/self/mountinfo") as mountinfo:
            return type_of_mount(fdinfo.read(), mountinfo.read())
    except (OSError, UnicodeDecodeError):
        return None
    finally:
        os.close(fd)


def type_of_mount(fdinfo: str, mountinfo: str) -> str | None:
    """The type of the mount that `fdinfo` (proc(5)) names, from the lines of `mountinfo`; None if it is not there."""
    match = _MOUNT_ID.search(fdinfo)
    if match is None:
        return None
    for line in mountinfo.splitlines():
        # 36 35 98:0 /root /mountpoint options [optional fields] - type source options
        mount, _, what = line.partition(" - ")
        if mount.split(" ", 1)[0] == match[1] and what:
            return what.split(" ", 1)[0]
    return None


def refuse_remote(directory: str) -> None:
    """Raise `StoreUnwritable` if `directory` is on a file system on which the writer lock keeps nobody out."""
    kind = file_system_type(directory)
    if kind in REMOTE:
        raise StoreUnwritable(
            f"expected {directory} to be on a disk of this machine, but it is on {kind}, where a lock does not keep "
            "other machines from writing; use a directory on a local disk, or on a network block device (iSCSI, NBD)"
        )
