"""The first ``release.toml``, and the first key: what an adopter begins with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from release.errors import SettingsError
from release.repository import signing

if TYPE_CHECKING:
    from pathlib import Path

TEXT: Final = """\
# How and where purgeline is released: read by the pipeline, never by an engine. A line that begins with `#`
# shows the default of its key. Relative paths are meant from this folder. PURGELINE_RELEASE_<KEY> goes over
# a key.

# What is published, and whom hosts and controllers believe.
repository = "dist/repository"  # folder, ssh://[user@]host[:port]/path, or https://... (to read only)
trusted_keys = ["{public}"]
# key_file = "~/.config/purgeline/release.key"  # private: only where something is published
# index_ttl_s = 7776000  # an index is good for so long; the task `repo --refresh` renews it
# source = ""  # checkout that is packed; empty: the one that the pipeline is run from
# python = ""  # of the hosts, such as "cp311"; empty: the one of this machine
# platform = "linux_x86_64"  # or "linux_aarch64"

# The hosts. The first one, or those of the group "canary", are tried first.
# [[hosts]] tables stand at the end of this file, or in the file that `inventory` names.
# inventory = "hosts.toml"
# root = "/srv/purgeline"  # folder on the hosts
# service = "auto"  # systemd | direct | auto: systemd where it runs
# workers = 1  # processes of the engine on a host
# ssh_key_file = ""  # empty: the agent's, and those under ~/.ssh
# known_hosts = ""  # empty: ~/.ssh/known_hosts and the system's
# connect_timeout_s = 10
# step_timeout_s = 300  # for one step on one host
# parallel_count = 16  # hosts that are worked on at once

# What a deploy takes, in which steps, and what ends it.
# channel = "stable"
# batches = "1,25%,100%"
# failures_max = 0  # hosts that may fail after the canary
# min_free_bytes = 314572800  # on the disk of a host
# reload_timeout_s = 60  # for a new worker to become ready
# bake_s = 5  # how long a new release is watched
# keep_count = 5  # good releases kept on a host
# lock_ttl_s = 300

# When deploy --shadow RECORDING stops: how far a new version may differ from the one that serves.
# shadow_status_share = 0.005  # of requests, answered with another status
# shadow_result_share = 0.005  # of tasks, come to another result
# shadow_latency_ratio = 1.3  # at p50 and at p90, at least
# shadow_cpu_ratio = 1.3
# shadow_requests = 10000  # the first of the recording
# shadow_slices = 40  # played at both, turn about
# shadow_speed = "max"  # such as "100%": at the recorded times
# shadow_timeout_s = 900

# Salt: what hosts are told, and how it is called.
# pillar = "pillar.sls"
# salt_call = "salt-call"
# salt_master = "salt"

# What this machine remembers, and what may be removed at any time.
# state_dir = "~/.local/state/purgeline"
# cache_dir = "~/.cache/purgeline"

# Shell commands that run on this machine; a pre- hook that fails stops, a post- hook takes the host back.
# [hooks]
# pre-deploy = "./ask-the-change-calendar"
# post-reload = "./smoke-test"

# [[hosts]]
# name = "cdn-1"
# address = "192.0.2.11"
# user = "deploy"
# groups = ["canary", "eu"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Initial:
    """What was written."""

    path: Path  #: of the settings
    key_file: Path
    public_key: str  #: base64, as ``trusted_keys`` takes it
    is_new_key: bool  #: False: the key was there already


def write(path: Path, key_file: Path) -> Initial:
    """Write settings with every key explained, and make a key to sign with unless there is one.

    Raises:
        SettingsError: there are settings already, or something cannot be written or read.
    """
    if path.exists():
        raise SettingsError(f"{path} is there already; edit it, or name another file with --settings")
    is_new_key = not key_file.exists()
    public = signing.new_key(key_file) if is_new_key else signing.public_text(signing.load_keys(key_file)[0])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(TEXT.format(public=public))
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be written: {exc.strerror}") from exc
    return Initial(path=path, key_file=key_file, public_key=public, is_new_key=is_new_key)
