"""``purgeline render CACHE --check``: what the cache itself says of the lines, before anybody relies on them.

The cache's own check of syntax reads them in a folder that is removed then: a whole configuration as it is, a
fragment with the least around it that makes it one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.base.templates import render
from engine.cli import whole
from engine.cli.fragments import NGINX_ZONE, SQUID_PEER, lines_of, without_secret
from engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.cli.fragments import Setting

PROGRAMS: Final[dict[str, tuple[str, ...]]] = {
    "varnish": ("varnishd", "vinyld"),  # the latter since Vinyl Cache 9
    "nginx": ("nginx",),
    "squid": ("squid",),
    "ats": ("traffic_server",),
}
FOLDERS: Final = ("/usr/local/sbin", "/usr/sbin", "/usr/local/bin", "/usr/bin", "/opt/ts/bin")
"""Searched after those of PATH, which leaves those of servers out for most users."""
_TIMEOUT_S: Final = 60.0
_NGINX_MODULE: Final = "ngx_http_cache_purge_module.so"
_ATS_LOG: Final = {"PROXY_CONFIG_DIAGS_LOGFILE_FILENAME": "stderr"}  # its reasons stand in its log alone
_ATS_FOLDERS: Final = (
    "PROXY_CONFIG_LOCAL_STATE_DIR",
    "PROXY_CONFIG_LOG_LOGFILE_DIR",
)  # its own are not everybody's

_SEEN: Final[dict[str, str]] = {
    "varnish": "varnishd compiled it",
    "nginx": "nginx read it, with its module",
    "squid": "Squid parsed it",
    "ats": "Traffic Server read plugin.config, remap.config and the rules of header_rewrite; ip_allow.yaml "
    "and the values of records.config it reads at its start only",
}
_HINTS: Final[tuple[tuple[str, str], ...]] = (
    ("vmod_xkey", "vmod xkey is missing: install varnish-modules, or render with --key-mode ban"),
    ("VMOD xkey", "vmod xkey is missing: install varnish-modules, or render with --key-mode ban"),
    ('unknown directive "proxy_cache_purge"', "this nginx has no cache_purge module: install it"),
    (
        "bind() to",
        "this user may not listen there, which says nothing of the lines: check as root, or set --port",
    ),
)
"""What a rejection names → what to do."""


class Trial(NamedTuple):
    """What the cache's own check said."""

    command: str
    is_accepted: bool
    output: str
    meaning: str


class MissingError(EngineError):
    """The cache is not installed here; the text says what to do."""


def try_out(setting: Setting, place: whole.Place | None) -> Trial:
    """Have the cache check the lines.

    Args:
        setting: what the lines depend on.
        place: of a cache with a whole configuration; None: the fragment is checked.

    Raises:
        MissingError: the cache is not here.
        UsageError: the cache cannot have so many backends, or no TLS.
        EngineError: its check does not end.
        OSError: the folder cannot be made, or the program not started.
    """
    program = _program(setting.driver)
    with tempfile.TemporaryDirectory(prefix="purgeline-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # for the users that servers become
        (runs := folder / "run").mkdir()
        runs.chmod(0o1777)
        for file, text in _files(_apart(setting, runs), place, folder, program).items():
            (folder / file).write_text(text, encoding="utf-8")
        command = _command(setting.driver, program, folder)
        done = _run(command, cwd=folder, variables={**_ATS_LOG, **dict.fromkeys(_ATS_FOLDERS, str(runs))})
    return _told(setting.driver, " ".join(command), done.returncode, done.stdout)


def _apart(setting: Setting, folder: Path) -> Setting:
    """Return *setting* without files and secrets of the live cache: its check runs plug-ins.

    regex_revalidate loads its rules then, and writes into its state file that they are in force, which the
    engine takes for purges that were carried out.
    """
    setting = without_secret(setting)
    if setting.rules_file:
        (rules := folder / "rules").touch()
        setting = setting._replace(rules_file=str(rules), rules_state_file=str(folder / "rules.state"))
    if setting.generation is not None:
        (state := folder / "generation").write_text("0\n", encoding="ascii")
        setting = setting._replace(generation={**setting.generation, "state_file": str(state)})
    return setting


def _run(
    command: list[str], *, cwd: Path | None = None, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a cache's program, and return what it said, on both outputs together.

    Raises:
        EngineError: it does not end.
        OSError: it cannot be started.
    """
    try:
        return subprocess.run(  # noqa: S603 - a list, of our own words and a path
            command,
            cwd=cwd,
            env={**os.environ, **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise EngineError(f"{' '.join(command)}: did not end within {_TIMEOUT_S:g} s") from exc


def _program(driver: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *FOLDERS])
    for name in PROGRAMS[driver]:
        if found := shutil.which(name, path=path):
            return found
    raise MissingError(
        f"{' or '.join(PROGRAMS[driver])} is not installed on this machine, so nothing was checked: "
        "run this command where the cache runs"
    )


def _files(setting: Setting, place: whole.Place | None, folder: Path, program: str) -> Mapping[str, str]:
    """Return the files of a configuration that the cache can check: name → text."""
    if place is None:
        files = _around_a_fragment(setting, folder)
    else:
        made = whole.whole_files(setting, place, objects=str(folder / "objects"))
        files = {file.name: file.text for file in made}
    if setting.driver == "nginx":
        parts = lines_of(setting)
        files["nginx.conf"] = render(
            "check/nginx.conf.j2",
            module=_nginx_module(program),
            zone=NGINX_ZONE,
            whole="" if place is None else "purgeline.conf",
            **{f"{part}_lines": parts.get(f"purge/nginx.{part}.j2", "") for part in _NGINX_PARTS},
        )
    return files


_NGINX_PARTS: Final = ("http", "server", "location", "canary")


def _around_a_fragment(setting: Setting, folder: Path) -> dict[str, str]:
    parts = lines_of(setting)
    canary = next((text for name, text in parts.items() if "canary" in name), "")
    match setting.driver:
        case "varnish":
            outer = render("check/varnish.vcl.j2", folder=folder, canary_lines=canary)
            return {"default.vcl": outer, "purgeline.vcl": parts["purge/varnish.vcl.j2"]}
        case "squid":
            lines = parts["purge/squid.conf.j2"]
            return {
                "squid.conf": render("check/squid.conf.j2", peer=SQUID_PEER, lines=lines, canary_lines=canary)
            }
        case "ats":
            files = {name: parts[f"ats/{name}.j2"] for name in ("plugin.config", "purgeline.config")}
            end = parts.get("ats/generation.config.j2", "").rpartition("\n@")
            remap = render("check/remap.config.j2", canary_lines=canary, rule_end="".join(end[1:]).strip())
            allowed = render("check/ip_allow.yaml.j2", lines=parts["ats/ip_allow.items.j2"])
            return {**files, "remap.config": remap, "ip_allow.yaml": allowed}
        case _:
            return {}


def _nginx_module(program: str) -> str:
    """Return the path of the module to load; empty: there is none, or it is compiled in."""
    said = _run([program, "-V"]).stdout
    words = dict(word.partition("=")[::2] for word in said.split() if word.startswith("--"))
    folder = words.get("--modules-path") or f"{words.get('--prefix', '/usr/local/nginx')}/modules"
    path = Path(folder) / _NGINX_MODULE
    return str(path) if path.is_file() else ""


def _command(driver: str, program: str, folder: Path) -> list[str]:
    match driver:
        case "varnish":
            return [program, "-j", "none", "-C", "-f", f"{folder}/default.vcl"]
        case "nginx":
            return [program, "-t", "-e", "stderr", "-p", f"{folder}/", "-c", "nginx.conf"]
        case "squid":
            return [program, "-k", "parse", "-f", f"{folder}/squid.conf"]
        case _:
            return [program, "-C", "verify_config", "-D", str(folder)]


def _told(driver: str, command: str, code: int, output: str) -> Trial:
    """Return what the outcome means; Squid and Traffic Server say errors that their exit codes do not."""
    is_accepted = code == 0 and not any(f"{word}: " in output for word in ("ERROR", "FATAL"))
    if is_accepted:
        shown = "" if driver == "varnish" else output  # it prints the C that it made, thousands of lines
        meaning = f"accepted: {_SEEN[driver]}. Whether purges purge, `purgeline check-nodes` tells"
    else:
        shown = output
        hint = next((hint for words, hint in _HINTS if words in output), "its words stand above")
        meaning = f"rejected{f' (exit code {code})' if code else ''}: {hint}"
    return Trial(command, is_accepted, shown, meaning)
