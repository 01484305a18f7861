"""As whom servers run: PostgreSQL and pgbouncer refuse to run as root."""

import os
import pwd
from pathlib import Path
from typing import TypedDict

CANDIDATES = ("postgres", "mysql", "nobody")


class Account(TypedDict, total=False):
    """What `subprocess` takes to run a program as somebody else; empty: as ourselves."""

    user: int
    group: int
    extra_groups: list[int]


def server_account() -> Account:
    """Ourselves, or for root the first account there is that may do little."""
    if os.geteuid() != 0:
        return {}
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise LookupError(f"Root cannot run a database server, and none of these accounts exists: {', '.join(CANDIDATES)}.")


def hand_over(folder: Path) -> Path:
    """Make a folder that belongs to that account."""
    folder.mkdir()
    account = server_account()
    os.chown(folder, account.get("user", -1), account.get("group", -1))
    return folder


def is_reachable(program: Path) -> bool:
    """Whether that account can get at a file: what lies in root's home, it cannot."""
    if not server_account():
        return os.access(program, os.X_OK)
    return all(step.stat().st_mode & 0o001 for step in (program.resolve(), *program.resolve().parents))
