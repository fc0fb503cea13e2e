"""The operation ``verify``: whether a release is still what was unpacked."""

from __future__ import annotations

from .answers import Refused
from .digests import lasting_files, sha256_of

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

    from .layout import Host

SHOWN_MAX = 3  #: differences that the answer names


def verify(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Compare every file of a release with what was unpacked."""
    version = request["version"]
    marker = host.need_verified(version)
    files, wanted = lasting_files(host.release(version)), marker.get("files", {})
    wrong = [f"{name} is missing" for name in wanted if name not in files]
    wrong += [
        f"{name} was changed" for name in wanted if name in files and sha256_of(files[name]) != wanted[name]
    ]
    wrong += [f"{name} was added" for name in files if name.startswith("venv/") and name not in wanted]
    if wrong:
        more = f" and {len(wrong) - SHOWN_MAX} more" if len(wrong) > SHOWN_MAX else ""
        raise Refused(
            "damaged", f"{version}: {'; '.join(wrong[:SHOWN_MAX])}{more}; unpack it again under a new version"
        )
    return {"version": version, "files": len(wanted)}
