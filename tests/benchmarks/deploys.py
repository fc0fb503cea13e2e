"""How long a deploy to three hosts takes, without load and under it, and how often each host is asked.

``python -m tests.benchmarks.deploys [--clients 120] [--batches 1,100%] [--bake 0.3]`` brings real releases of
this tree to three hosts of namespaces, each with a Varnish, with the real pip; the clients make no pauses.
Needs root, and a machine that does nothing else.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

import msgspec

from tests.rigs import real_site
from tests.rigs.hosts import Host, Hosts
from tests.rigs.real_site import HostLoad
from tests.rigs.site import Site


def asked(host: Host) -> int:
    """Return how many sessions its sshd began for commands and files."""
    return (host.folder / "console.log").read_text(errors="replace").count("Starting session")


def deploy(site: Site, version: str, batches: str, *, most_s: float = 0.0) -> None:
    """Deploy a version, and print what it took, beside what it may take; 0: that is not said."""
    before = {host.name: asked(host) for host in site.rig.hosts}
    began = time.monotonic()
    done = site.run("deploy", "--release", version, "--no-salt", "--yes", "--batches", batches)
    took_s = time.monotonic() - began
    assert done.code == 0, done.err
    print(done.out)
    counts = ", ".join(f"{host.name} {asked(host) - before[host.name]}" for host in site.rig.hosts)
    target = f" (target <= {most_s:g} s: {'ok' if took_s <= most_s else 'missed'})" if most_s else ""
    print(f"{version}: {took_s:.1f} s{target}; sessions: {counts}\n", flush=True)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clients", type=int, default=120, help="on all hosts together")
    parser.add_argument("--batches", default="1,100%")
    parser.add_argument("--bake", type=float, default=0.3)
    args = parser.parse_args()
    real_site.PAUSE_S = 0
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        rig = stack.enter_context(Hosts(folder / "rig", 3))
        site = Site(rig, folder / "site")
        site.settings = msgspec.structs.replace(
            site.settings,
            cache_dir="~/.cache/purgeline",
            reload_timeout_s=60,
            step_timeout_s=300,
            bake_s=args.bake,
        )
        for host in rig.hosts:
            stack.enter_context(real_site.varnish_on(host))
            real_site.write_config(site, host)
        tree = real_site.clone(folder / "tree")
        for version in ("1.0.0", "1.1.0", "1.2.0"):
            real_site.publish(tree, version, site)
            real_site.commit(tree, "the next one")
        stack.callback(site.run, "stop")
        print("first deploy, nothing runs:")
        deploy(site, "1.0.0", args.batches)
        print("without load:")
        deploy(site, "1.1.0", args.batches, most_s=8)
        for host in rig.hosts:
            stack.enter_context(HostLoad(host, clients=args.clients // 3))
        print(f"under {args.clients} clients without pause:")
        deploy(site, "1.2.0", args.batches, most_s=18)


if __name__ == "__main__":
    main()
