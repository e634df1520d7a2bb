"""Opening a link in the browser of the person at this machine, where there is one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping

OPENER = "xdg-open"
"""The one way that desktops agree on; it asks BROWSER first."""


def is_remote(variables: Mapping[str, str]) -> bool:
    """Say whether the person sits at another machine, as far as ssh tells."""
    return bool(variables.get("SSH_CONNECTION") or variables.get("SSH_TTY"))


def open_link(url: str, variables: Mapping[str, str], *, uid: int) -> bool:
    """
    Have *url* opened; False where nobody would see it: no display, another machine, or root, who has no browser.

    Whether the browser really shows it is not known: the caller prints the link in any case.
    """
    has_display = bool(variables.get("DISPLAY") or variables.get("WAYLAND_DISPLAY"))
    opener = shutil.which(OPENER, path=variables.get("PATH"))
    if is_remote(variables) or not has_display or opener is None or uid == 0:
        return False
    try:
        subprocess.Popen(  # noqa: S603 - the desktop's own program, with a link that this process made
            [opener, url],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    return True
