"""The `inv` wrapper, in a copy of the project whose Python is a script that writes down what it is asked.

The real thing is tried by every run of these tests: `./inv test` has come this way.
"""

import contextlib
import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
TOOLS = (
    *("sh", "cat", "cut", "dirname", "readlink", "sha256sum", "rm", "mkdir", "cp", "chmod", "sleep"),
    *("date", "grep", "stty", "tail"),
)

# Stands in for python3 and, copied, for .venv/bin/python. `-c` reaches the real one.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
*sys.version_info*) echo "${FAKE_VERSION:-3.11 True}" ;;
*"import ensurepip"*) exit "${FAKE_NO_VENV:-0}" ;;
"-c "*) exec "$REAL_PYTHON" "$@" ;;
"-m venv --clear "*)
    echo venv >>"$FAKE_LOG"
    version=${FAKE_VERSION:-3.11 True}
    rm -rf "$4" && mkdir -p "$4/bin" "$4/lib/python${version%% *}"
    cp "$0" "$4/bin/python"
    ;;
"-P -m release.tasks.program "*) shift 3 && echo "$PWD" "$@" ;;
"-m pip "*--require-hashes*)
    echo "$FAKE_PIP_SAYS"
    sleep "${FAKE_PIP_S:-0}"
    echo locked >>"$FAKE_LOG"
    exit "${FAKE_PIP_EXIT:-0}"
    ;;
"-m pip "*--editable*) echo project >>"$FAKE_LOG" ;;
*) exit 99 ;;
esac
"""


class Project:
    """A copy of the files that the wrapper reads, and a PATH with nothing but a fake python3."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a project"  # with a space: every path in the script must be quoted
        self.path = folder / "path"
        self.log = folder / "log"
        self.root.mkdir()
        self.path.mkdir()
        for name in ("inv", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
            shutil.copy(ROOT / name, self.root / name)
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found
            (self.path / tool).symlink_to(found)
        self.python = self.path / "python3"
        self.python.write_text(FAKE_PYTHON, encoding="utf-8")
        self.python.chmod(0o755)

    def start(
        self,
        *args: str,
        cwd: Path | None = None,
        inv: Path | None = None,
        stderr: int = subprocess.PIPE,
        **env: str,
    ) -> subprocess.Popen[str]:
        env = {"PATH": str(self.path), "FAKE_LOG": str(self.log), "REAL_PYTHON": sys.executable} | env
        return subprocess.Popen(
            [str(inv or self.root / "inv"), *args],
            cwd=cwd or self.root,
            env=env,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,  # so that a test may kill it with all it started
        )

    def run(
        self, *args: str, cwd: Path | None = None, inv: Path | None = None, **env: str
    ) -> tuple[int, str, str]:
        process = self.start(*args, cwd=cwd, inv=inv, stderr=subprocess.PIPE, **env)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    def take_steps(self) -> list[str]:
        """Return what was installed since the last call."""
        steps = self.log.read_text(encoding="utf-8").split() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return steps


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_first_run_sets_up_and_the_second_goes_straight_to_the_task(project: Project) -> None:
    code, out, err = project.run("check", "--x=a b")
    assert (code, out) == (0, f"{project.root} --search-root {project.root} check --x=a b\n")
    assert err.splitlines() == [
        f"setting up {project.root}/.venv ...",
        f"  1/3 a new environment of {project.python}",
        "  2/3 the packages of requirements-dev.lock, the longest step",
        "  3/3 the project",
    ]
    assert project.take_steps() == ["venv", "locked", "project"]
    project.python.unlink()  # no longer needed
    assert project.run("check") == (0, f"{project.root} --search-root {project.root} check\n", "")
    assert project.take_steps() == []


def test_without_arguments_it_lists_the_tasks(project: Project) -> None:
    assert project.run()[1].endswith(" --list\n")


@pytest.mark.parametrize("target", ["../a project/inv", "absolute"])
def test_through_a_symlink_the_callers_folder_stays(project: Project, tmp_path: Path, target: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "first").symlink_to(project.root / "inv" if target == "absolute" else target)
    (elsewhere / "second").symlink_to("first")
    code, out, _ = project.run("check", cwd=elsewhere, inv=elsewhere / "second")
    assert (code, out) == (0, f"{elsewhere} --search-root {project.root} check\n")


def test_it_works_when_found_on_path(project: Project, tmp_path: Path) -> None:
    code, out, _ = project.run("check", cwd=tmp_path, inv=Path("inv"), PATH=f"{project.root}:{project.path}")
    assert (code, out) == (0, f"{tmp_path} --search-root {project.root} check\n")


def test_a_python_too_old_is_one_line_and_2(project: Project) -> None:
    code, out, err = project.run("check", FAKE_VERSION="3.9 False")
    assert (code, out) == (2, "")
    assert err == f"inv: needs Python 3.11 or newer, but {project.python} is 3.9\n"


def test_no_python_is_one_line_and_2(project: Project) -> None:
    project.python.unlink()
    code, _, err = project.run("check")
    assert code == 2
    assert err.startswith("inv: needs Python 3.11 or newer, found no python3: ")
    assert err.count("\n") == 1


def test_no_venv_module_names_the_package(project: Project) -> None:
    code, _, err = project.run("check", FAKE_NO_VENV="1")
    assert code == 2
    assert err == f"inv: {project.python} has no venv module: install python3-venv (or python3.11-venv)\n"


@pytest.mark.parametrize(
    ("changed", "steps"),
    [
        ("requirements.lock", ["venv", "locked", "project"]),
        ("requirements-dev.lock", ["venv", "locked", "project"]),
        ("pyproject.toml", ["project"]),
        ("inv", []),
    ],
)
def test_only_a_change_of_its_inputs_installs_again(project: Project, changed: str, steps: list[str]) -> None:
    project.run("check")
    project.take_steps()
    with (project.root / changed).open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    project.run("check")
    assert project.take_steps() == steps


def test_a_moved_project_is_set_up_again(project: Project, tmp_path: Path) -> None:
    project.run("check")
    project.take_steps()
    moved = tmp_path / "moved"
    project.root.rename(moved)
    code, out, _ = project.run("check", cwd=tmp_path, inv=moved / "inv")
    assert (code, out) == (0, f"{tmp_path} --search-root {moved} check\n")
    assert project.take_steps() == ["venv", "locked", "project"]


def test_a_venv_whose_python_went_away_is_made_anew(project: Project) -> None:
    project.run("check")
    project.take_steps()
    (project.root / ".venv" / "bin" / "python").unlink()
    assert project.run("check")[0] == 0
    assert project.take_steps() == ["venv", "locked", "project"]


def test_a_venv_whose_python_is_another_minor_version_now_is_made_anew(project: Project) -> None:
    """As when the system's ``python3`` becomes a newer one."""
    project.run("check")
    project.take_steps()
    for steps in (["venv", "locked", "project"], []):
        assert project.run("check", FAKE_VERSION="3.12 True")[0] == 0
        assert project.take_steps() == steps


def test_a_failed_install_says_so_and_is_done_again(project: Project) -> None:
    code, out, err = project.run("check", FAKE_PIP_EXIT="1")
    assert (code, out) == (1, "")
    said = f"inv: could not set up {project.root}/.venv (all that was said: {project.root}/.venv.log); "
    assert err.endswith(f"{said}run the same command again to go on\n")
    project.take_steps()
    assert project.run("check")[0] == 0
    assert project.take_steps() == ["venv", "locked", "project"]


def test_it_tells_how_far_pip_is_in_one_line_of_a_terminal(project: Project) -> None:
    """As narrow as the terminal; the line is gone when the packages are there."""
    terminal, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    says = "Collecting a==1\n  Downloading a\nCollecting b==2"
    process = project.start("check", stderr=side, FAKE_PIP_S="1.5", FAKE_PIP_SAYS=says)
    os.close(side)
    shown = ""
    with contextlib.suppress(OSError):  # EIO: the other side is closed
        while chunk := os.read(terminal, 4096):
            shown += chunk.decode()
    os.close(terminal)
    assert process.wait(30) == 0
    process.communicate()
    told = [line for line in shown.split("\r") if "packages, " in line]
    count = len(re.findall(r"^[A-Za-z0-9].*==", (ROOT / "requirements-dev.lock").read_text(), re.MULTILINE))
    assert told
    assert re.fullmatch(rf"      2 of {count} packages, \d+ s +", told[0])
    assert len(told[0]) == 39
    assert "\r  3/3 the project\r\n" in shown


def test_without_a_network_it_says_what_may_be_missing(project: Project) -> None:
    says = "WARNING: Retrying after connection broken\nERROR: No matching distribution found for a"
    code, _, err = project.run("check", FAKE_PIP_EXIT="1", FAKE_PIP_SAYS=says)
    assert code == 1
    assert "ERROR: No matching distribution found for a\ninv: the package index did not answer" in err


def test_a_folder_that_may_not_be_written_is_one_line_and_2(project: Project) -> None:
    """A file system without writes stops root, too."""
    flags = "mount --bind . . && mount -o remount,bind,ro . && exec ./inv check"
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("needs a mount namespace of its own")
    (project.path / "mount").symlink_to(shutil.which("mount") or "")
    process = project.start("-m", "sh", "-c", flags, inv=Path(shutil.which("unshare") or ""))
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, "")
    assert err.startswith(f"inv: {project.root} may not be written, and .venv has to be made there")
    assert err.count("\n") == 1


def test_a_killed_install_is_done_again(project: Project) -> None:
    process = project.start("check", FAKE_PIP_S="60")
    wait_for_steps(project, "venv")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    project.take_steps()
    assert project.run("check")[0] == 0
    assert project.take_steps() == ["venv", "locked", "project"]


def test_a_second_one_waits_for_the_install_of_the_first(project: Project) -> None:
    both = [project.start("check", FAKE_PIP_S="0.5")]
    wait_for_steps(project, "venv")
    both.append(project.start("check"))
    outputs = [process.communicate(timeout=30) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert [out for out, _ in outputs] == [f"{project.root} --search-root {project.root} check\n"] * 2
    assert project.take_steps() == ["venv", "locked", "project"]


def wait_for_steps(project: Project, *steps: str) -> None:
    wait_until(
        lambda: project.log.exists() and project.log.read_text(encoding="utf-8").split() == list(steps)
    )


def test_the_real_wrapper_runs_from_another_folder(tmp_path: Path) -> None:
    """Uses the .venv that runs this test, so it installs nothing."""
    (tmp_path / "inv").symlink_to(ROOT / "inv")
    done = subprocess.run(
        [tmp_path / "inv"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "check" in done.stdout
    done = subprocess.run(
        [tmp_path / "inv", "tset"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    said = "there is no task 'tset'; did you mean test? (see ./inv --list)\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
