"""Where the file lies, and whether a database may lie there. Looks by `stat`; never opens the database."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from forebay.errors import EngineRefused

MOUNTS: Final = "/proc/self/mountinfo"
LONGEST_PATH: Final = 500
"""Bytes: SQLite takes 512, with an ending such as ``-journal``."""
LONGEST_NAME: Final = 247
"""Bytes: file systems take 255, with such an ending."""
NETWORK: Final = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs", "vboxsf",
    "fuse.ceph-fuse", "fuse.davfs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.mfs", "fuse.rclone",
    "fuse.s3fs", "fuse.smbnetfs", "fuse.sshfs", "fuse.vmhgfs-fuse",
})  # fmt: skip
"""File systems whose locks or shared memory do not hold between hosts; SQLite's write-ahead log needs both."""


def check_place(path: Path, *, create: bool, network: bool, mounts: str = MOUNTS) -> None:
    """Raise `EngineRefused` for a path at which no database of ours can live."""
    folder = path.parent
    if len(os.fsencode(path)) > LONGEST_PATH or any(
        len(os.fsencode(part)) > LONGEST_NAME for part in path.parts
    ):
        raise EngineRefused(
            f"{path} is too long: a path may have {LONGEST_PATH} bytes, and a name in it {LONGEST_NAME}, with what SQLite adds to them."
        )
    if not folder.is_dir():
        raise EngineRefused(
            f"The directory {folder} of the database does not exist: create it, or choose another path."
        )
    check_there(path)
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        if not create:
            raise EngineRefused(
                f"There is no database at {path}: check the path, or start what creates it first."
            ) from None
    except OSError as error:
        raise EngineRefused(
            f"{path} cannot be used ({error.strerror}): check the path and the rights of this user."
        ) from error
    else:
        if not stat.S_ISREG(kind):
            raise EngineRefused(f"{path} is not a file: choose a path for the database itself.")
        if not _may(path, os.R_OK | os.W_OK):
            raise EngineRefused(
                f"{path} may not be read and written by this user: change its owner or its mode."
            )
    if not _may(folder, os.W_OK | os.X_OK):
        raise EngineRefused(
            f"The directory {folder} may not be written by this user, but SQLite keeps files beside the database."
        )
    kept = filesystem(path, mounts)
    if kept in NETWORK and not network:
        raise EngineRefused(
            f"{path} is on a network file system ({kept}), where SQLite can lose data: use a local disk, or a server engine"
            " (?network=allow in the URL overrides this if only one host ever opens the file)."
        )


def check_there(path: Path) -> None:
    """Raise `EngineRefused` rather than begin anew where there was a database, or is its log: that would hide what is lost.

    SQLite takes away the log of a database that is empty.
    """
    if size := _size(path):
        return
    log, lock = (path.with_name(f"{path.name}{ending}") for ending in ("-wal", ".lock"))
    what = "is gone" if size is None else "is empty"
    if _size(log):
        raise EngineRefused(
            f"{path} {what}, but its log {log} is there and may hold messages: put the database back. To begin anew, stop all that uses it"
            f" and delete {log} and {lock}."
        )
    if _size(lock):
        raise EngineRefused(
            f"{path} {what}, and there was a database: put it back. To begin anew, stop all that uses it and delete {lock}."
        )


def _size(path: Path) -> int | None:
    """Bytes of a file; None if there is none that can be looked at."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _may(path: Path, mode: int) -> bool:
    """Whether this process may, as whom it acts: a service that has dropped its rights for a while is somebody else."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def filesystem(path: Path, mounts: str = MOUNTS) -> str | None:
    """The type of the file system ``path`` is on, as Linux names it; None where there is no mount table."""
    try:
        table = Path(mounts).read_text("utf-8", "surrogateescape")
    except OSError:
        return None
    real = f"{path.parent.resolve()}/"
    found: tuple[int, str | None] = (0, None)
    for line in table.splitlines():
        # mountinfo: id, parent, device, root, mount point, options, any number of tags, "-", type, source, more options
        fields, _, rest = line.partition(" - ")
        point = _unescaped(fields.split(" ")[4]).rstrip("/") + "/"
        if real.startswith(point) and len(point) >= found[0]:
            found = (len(point), rest.split(" ", 1)[0])
    return found[1]


def _unescaped(text: str) -> str:
    """Mount tables write blanks as octal escapes."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text)
