"""Real power cuts: a store on a file system of our own, whose power goes while a real host and worker write.

    python -m bgsuper.torture.power --ext4 500 --xfs 500 --block-log 300

cuts.py      cuts by the shutdown ioctl of ext4 and XFS on a loop mount: what was not synced is gone
replay.py    an ext4 on a disk that logs its writes; the disks that a cut may leave are built from that log
model.py     what may be there afterwards; pure
workload.py  what is written meanwhile
planted.py   the same with a faulty worker: such a run must find violations

Needs root, loop devices, e2fsprogs and xfsprogs; the block log also /dev/fuse, fuse3 and mfusepy.
"""

from __future__ import annotations
