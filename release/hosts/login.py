"""What a login may do on a host: as itself, or as root by ``sudo``; and where it brings things.

A login that is not root does everything as itself where the installation's folder is its own, the engine's
control socket is, and no unit of systemd runs the engine there. Elsewhere everything is done as root by
``sudo -n``, which has to work without a password. What is brought lies in the folder's ``cache``; where there
is no such folder yet, or it is root's, in the login's own ``~/.cache/purgeline``. So a look at a host leaves
nothing in a folder that is not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SUDO: Final = ("sudo", "-n", "--")
NO_RIGHTS: Final = 77  #: exit code of `LOOK`: the login may not, and cannot become root

#: Arguments: the installation's folder, the name of the agent's folder. Prints who becomes root, or an empty
#: line; the folder that things are brought to; and the digest of the agent there, if there is one.
LOOK: Final = r"""
root=$1 agent=$2 above=$1 why=
while [ ! -e "$above" ] && [ ! -h "$above" ]; do above=$(dirname -- "$above"); done
[ -d "$above" ] || { echo "cannot make $root: $above is no folder"; exit 1; }
run=$root/shared/run unit=/etc/systemd/system/purgeline.service
if [ "$(id -u)" != 0 ]; then
    if [ ! -w "$above" ] || [ ! -x "$above" ]; then
        why="may not write $above"
    elif [ -d "$run" ] && [ ! -x "$run" ]; then
        why="may not ask the engine in $root"
    elif [ -e "$run/control.sock" ] && [ ! -w "$run/control.sock" ]; then
        why="may not ask the engine in $root"
    elif [ -d /run/systemd/system ] && grep -qsE -e "--root[ =]$root( |\$)" "$unit"; then
        why="may not have systemd start the engine in $root"
    fi
    if [ -n "$why" ]; then
        said=$(sudo -n -- true 2>&1) || { echo "$(id -un) $why, and cannot become root: ${said##*"
"}"; exit 77; }
    fi
fi
place=${XDG_CACHE_HOME:-$HOME/.cache}/purgeline
[ ! -d "$root" ] || [ -n "$why" ] || place=$root/cache
said=$(mkdir -p -- "$place" 2>&1) || { echo "cannot make $place: $said"; exit 1; }
printf '%s\n%s\n' "${why:+$(id -un) $why}" "$place"
cd "$place/$agent" 2>/dev/null || exit 0
touch -c . 2>/dev/null
LC_ALL=C
export LC_ALL
sha256sum -- * 2>&1 | sha256sum
"""


@dataclass(frozen=True, slots=True)
class Login:
    """What `LOOK` found out.

    Attributes:
        why_sudo: why things are done as root by sudo; empty: the login does them itself.
        place: folder on the host that things are brought to.
        digest: of the agent that is there; empty: none is.
    """

    why_sudo: str
    place: str
    digest: str

    @classmethod
    def read(cls, text: str) -> Login:
        """Return what the output of `LOOK` says.

        Raises:
            ValueError: it is not its output; a login shell may print something of its own.
        """
        lines = text.split("\n")
        if len(lines) < 2 or not lines[1].startswith("/"):  # noqa: PLR2004
            raise ValueError(f"{text[-200:]!r}")
        digest = lines[2].split(" ")[0].lstrip("\\") if len(lines) > 2 else ""  # noqa: PLR2004
        return cls(lines[0], lines[1], digest)

    @property
    def before(self) -> list[str]:
        """What goes in front of a command."""
        return list(SUDO) if self.why_sudo else []
