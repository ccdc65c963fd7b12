"""On which file system a directory is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bgsuper.errors import StoreUnwritable
from bgsuper.store import mounts
from bgsuper.store.mounts import file_system_type, refuse_remote, type_of_mount

MOUNTINFO = r"""22 28 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw
28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
31 28 0:26 / /srv/a\040-\040b rw,relatime - nfs4 server:/export rw,vers=4.2
310 28 0:27 / /home/me/far rw,nosuid,nodev shared:8 master:2 - fuse.sshfs me@far:/ rw,user_id=0
32 28 0:28 / /broken
"""


def fdinfo(mount: int) -> str:
    return f"pos:\t0\nflags:\t02100000\nmnt_id:\t{mount}\nino:\t2\n"


@pytest.mark.parametrize(
    ("mount", "expected"),
    [(28, "ext4"), (31, "nfs4"), (310, "fuse.sshfs"), (22, "sysfs"), (32, None), (3, None), (99, None)],
)
def test_the_type_of_a_mount(mount: int, expected: str | None) -> None:
    """By its id alone, whatever its path looks like; None for one that is not listed."""
    assert type_of_mount(fdinfo(mount), MOUNTINFO) == expected


def test_without_a_mount_id_nothing_is_known() -> None:
    """As on a kernel that does not say."""
    assert type_of_mount("pos:\t0\n", MOUNTINFO) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc/self/mountinfo")
def test_the_real_mounts() -> None:
    """/proc is of type proc."""
    assert file_system_type("/proc") == "proc"


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """`StoreUnwritable`, as for any use of it."""
    with pytest.raises(StoreUnwritable, match="No such file"):
        file_system_type(str(tmp_path / "absent"))


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs"])
def test_what_other_machines_reach_is_refused(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """With the type and what to do instead."""
    monkeypatch.setattr(mounts, "file_system_type", lambda directory: kind)
    with pytest.raises(StoreUnwritable, match=f"it is on {kind}, where a lock does not keep"):
        refuse_remote("/srv/store")


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "9p", None])
def test_what_only_this_machine_reaches_is_not(monkeypatch: pytest.MonkeyPatch, kind: str | None) -> None:
    """Nor what cannot be told."""
    monkeypatch.setattr(mounts, "file_system_type", lambda directory: kind)
    refuse_remote("/srv/store")
