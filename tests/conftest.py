"""What all tests stand on, and the map of their rooms.

A test lives in the room of what it needs; a file is named after the module or the behaviour it tests.

- ``unit/``: no sockets, threads or processes, milliseconds each (its conftest fails a test that breaks this);
  a file for each module of ``engine`` and ``release``.
- ``contract/``: one suite against every implementation of an interface: both stores, drivers on real caches,
  data of the version before.
- ``service/``: the engine with sockets, threads and processes, from one class on a loop to several engines
  under load: reload, overload, shutdown, faults; and what a user types.
- ``hosts/``: what ships the engine: packing, repositories, the agent on a host, deploys by SSH to several.
- ``states/``: renders and applies every state and template, on machines made of namespaces.
- ``model/``: an engine in process on a virtual clock, with caches that cache, under random faults; what holds
  is checked after every run. ``python -m tests.model`` runs for longer.
- ``fuzz/``: requests that are nearly right: what must hold whatever comes, on both lanes alike.
  ``python -m tests.fuzz`` runs for longer.
- ``benchmarks/``: figures, not checks; ``./inv bench`` runs them.

No tests, but what tests use:

- ``fakes/``: what stands in for something else: caches, workers, networks, small artefacts.
- ``rigs/``: real parts put together: engines, supervisors, Redis servers, hosts, and clients of all of them.
- ``waiting.py``: the one way to wait.

``./inv test`` leaves out ``slow`` (one more case of what another test shows) and ``bench``; with ``--all`` it
runs ``slow``, too. One room: ``.venv/bin/python -m pytest tests/unit``; with ``-n 2 --dist loadfile`` two
files at a time. Markers are explained in ``pyproject.toml``; ``real`` is set here, see `NEEDS_SERVER`.
"""

import functools
import gc
import os
import signal
import sys
from collections.abc import Generator
from types import ModuleType

import pytest

from engine.base import form


def pytest_configure() -> None:
    """Take Ctrl-C, and so have the tests' processes take it, although a shell's background jobs ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    keep_bytecode()
    wanted = os.environ.get("PURGELINE_TEST_FORM", "")
    if wanted not in {"", form.form()}:
        pytest.exit(f"the hot modules run {form.form()}, not {wanted}: ./inv build", returncode=4)


def keep_bytecode() -> None:
    """Have bytecode kept, whatever the caller's environment says.

    Hundreds of engines are started: without it each of them compiles itself, a quarter of what a start costs.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what is skipped as root, who can have every server installed: nothing is left out unnoticed."""
    report = yield
    if report.skipped and os.geteuid() == 0:
        report.outcome = "failed"
        report.longrepr = f"skipped, although root can install what it needs: {report.longrepr}"
    return report


#: Files that take long, the longest first: whoever came to one last would keep all others waiting.
LONG_FILES = (
    "test_deploy_real",
    "test_host_reload",
    "test_deploy_hosts",
    "test_reload",
    "test_masterless",
    "test_deploy_faults",
    "test_demo",
    "test_supervisor",
    "test_model",
    "test_supervisor_reload",
    "test_host_unpack",
    "test_packing",
    "test_deploy",
    "test_redis_faults",
    "test_host_start",
    "test_host_interrupted",
    "test_caches",
    "test_cluster",
    "test_fuzz",
    "test_console_page",
    "test_canaries",
    "test_host_history",
    "test_login",
    "test_clocks",
    "test_cdni_restart",
    "test_console_strange",
    "test_console",
    "test_callbacks",
    "test_start_page",
    "test_shadow",
    "test_unreachable",
    "test_answers",
    "test_ssh",
    "test_node",
    "test_dispatch",
    "test_publishing",
    "test_refused",
    "test_store_alike",
    "test_purge",
    "test_cluster_checker",
    "test_leader",
    "test_kinds",
    "test_remote",
    "test_configuration_changes",
    "test_port",
)

#: A file that imports something of these needs a server of another program.
NEEDS_SERVER = (
    "release.lab.caches",
    "tests.rigs.booted",
    "tests.rigs.browser",
    "tests.rigs.cluster_engine",
    "tests.rigs.hosts",
    "tests.rigs.machine",
    "tests.rigs.redis_servers",
    "tests.rigs.sftpd",
    "tests.rigs.site",
    "tests.rigs.sshd",
    "tests.rigs.states_on_machine",
)


@pytest.hookimpl(tryfirst=True)  # before -m looks at marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long, and mark what needs a server."""
    order = {name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
    for item in items:
        if isinstance(item, pytest.Function) and needs_server(item.module):
            item.add_marker("real")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Search for no garbage while tests are collected, and keep what was out of every later search.

    That is a million objects, and none of them goes: a sixth of what collecting costs each worker.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@functools.cache
def needs_server(module: ModuleType) -> bool:
    """Tell whether a file of tests imports something of `NEEDS_SERVER`; a free port is no server."""
    for name, value in vars(module).items():
        home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(home, str) and home.startswith(NEEDS_SERVER) and name != "free_port":
            return True
    return False
