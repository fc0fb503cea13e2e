"""release.build.wheels: what of the lock a host needs, and which hosts there can be."""

from typing import Final

import pytest

from release.build import wheels
from release.build.wheels import Target
from release.errors import ArtefactError, SettingsError
from release.settings import ROOT

HASH: Final = "a" * 64


def test_the_lock_is_read_for_the_hosts_python() -> None:
    lock = f"""\
Always==1 \\
    --hash=sha256:{HASH} \\
    --hash=sha256:{"b" * 64}
old==1.0 ; python_full_version < '3.12' \\
    --hash=sha256:{HASH}
old==2.0 ; python_full_version >= '3.12' \\
    --hash=sha256:{HASH}
some-patches==1 ; python_full_version < '3.11.3' --hash=sha256:{HASH}
windows==1 ; sys_platform == 'win32' --hash=sha256:{HASH}
arm==1 ; platform_machine == 'aarch64' --hash=sha256:{HASH}
"""
    for target, wanted in (
        (Target("cp311", "linux_x86_64"), ["always==1", "old==1.0", "some-patches==1"]),
        (Target("cp312", "linux_aarch64"), ["always==1", "arm==1", "old==2.0"]),
    ):
        assert [entry.line.split(" ")[0] for entry in wheels.select(lock, target)] == wanted
    assert wheels.select(lock, target)[0].line.count("--hash=sha256:") == 2


@pytest.mark.parametrize(
    ("lock", "why"),
    [
        ("one==1\n", "one needs one ==version and hashes"),
        (f"one>=1 --hash=sha256:{HASH}\n", "one needs one ==version"),
        (f"=1 --hash=sha256:{HASH}\n", "cannot be read"),
        (f"one==1 --hash=sha256:{HASH}\nOne==2 --hash=sha256:{HASH}\n", "one has two versions for cp311"),
    ],
)
def test_a_lock_that_holds_nobody_to_anything_is_refused(lock: str, why: str) -> None:
    with pytest.raises(ArtefactError, match=rf"requirements\.lock: .*{why}"):
        wheels.select(lock, Target("cp311", "linux_x86_64"))


def test_the_projects_lock_fits_every_python_and_machine_that_is_offered() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    for python in ("cp311", "cp312", "cp313", "cp314"):
        for platform in ("linux_x86_64", "linux_aarch64"):
            names = {entry.name for entry in wheels.select(lock, wheels.target(python, platform))}
            assert {"aiohttp", "uvloop", "rich", "pyjwt", "cryptography"} <= names
            assert not {"fabric", "invoke", "joserfc"} & names  # the pipeline's
            assert "cyclonedx-python-lib" not in names, "only who packs needs it"


@pytest.mark.parametrize(
    ("python", "platform"), [("cp310", ""), ("3.11", ""), ("cp311", "win_amd64"), ("cp311", "linux_x86")]
)
def test_a_target_that_no_host_can_be_is_refused(python: str, platform: str) -> None:
    with pytest.raises(SettingsError, match=r"(python|platform) '.*': takes "):
        wheels.target(python, platform or "linux_x86_64")
