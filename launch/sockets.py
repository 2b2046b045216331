"""Where a private server puts its socket."""

import getpass
import hashlib
import os
import pwd
import tempfile
from pathlib import Path

from launch.failures import CannotStart

LONGEST_PATH = 70  # the kernel takes 107 bytes, macOS 103; the servers add a name of their own


def socket_folder(folder: Path, owner: str | None = None) -> Path:
    """The server's own folder, or a short one under the temporary folder where the path would be too long.

    `owner` is the account the server runs as, if it is not this one.
    """
    if len(os.fsencode(folder)) <= LONGEST_PATH:
        return folder
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"whetstone-{getpass.getuser()}-{name}"
    short.mkdir(mode=0o700, exist_ok=True)
    if owner is not None:
        os.chown(short, pwd.getpwnam(owner).pw_uid, -1)
    elif short.stat().st_uid != os.geteuid():
        raise CannotStart(f"{short} belongs to somebody else: set DATA_DIR to a shorter path.")
    return short
