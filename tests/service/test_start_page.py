"""docs/start.md: a Varnish with Debian's VCL, and every block of the page typed, one after the other."""

from __future__ import annotations

import re

import pytest

from release.lab.caches.servers import VARNISH_QUICK
from release.lab.origin import Origin
from tests import pages
from tests.rigs.typed import Ports, blocks, open_folder, script_of, typed, unsaid

PAGE = pages.DOCS / "start.md"
VCL = """\
vcl 4.1;

backend default {{
    .host = "127.0.0.1";
    .port = "{port}";
}}

sub vcl_recv {{
}}
"""


@pytest.mark.real
def test_the_page_leads_to_a_purge_that_is_proven() -> None:
    """Without its installation; as another user than root, so `sudo` and `/etc/varnish` are left out."""
    install, *steps = blocks(PAGE.read_text(encoding="utf-8"))
    assert "pip install purgeline\n" in install.script
    options = " ".join(f"'{word}'" for word in VARNISH_QUICK)
    begin = (
        "varnishd -F -n $PWD/run -a 127.0.0.1:6081 -f $PWD/default.vcl -s malloc,32m "
        f"{options} >varnish.log 2>&1 &\n"
        "until varnishadm -n $PWD/run status >/dev/null 2>&1; do sleep 0.1; done\n"
    )
    script = begin + script_of(steps)
    script = script.replace("sudo systemctl reload varnish", "/usr/share/varnish/varnishreload -n $PWD/run")
    with Origin() as origin, open_folder() as folder:
        (folder / "default.vcl").write_text(VCL.format(port=origin.port), encoding="utf-8")
        script = script.replace("sudo ", "").replace("/etc/varnish", str(folder))
        ports = Ports()
        listen = {"PURGELINE_ENGINE__LISTEN": f"127.0.0.1:{ports['9181']}"}
        code, said = typed(script, folder, ports, env=listen)
        logs = "".join(f"{log.name}: {log.read_text()}" for log in folder.glob("*.log"))
    assert code == 0, said + logs
    lines = [_known(line) for line in said.splitlines()]
    missing = unsaid([_known(line) for step in steps for line in step.shown], lines)
    assert not missing, (missing, said)


def _known(line: str) -> str:
    """Return a line without what depends on the backend and on the time."""
    return re.sub(r"^Age: [1-9]\d*$", "Age: some", re.sub(r"\(\d{3}\)", "(status)", line))
