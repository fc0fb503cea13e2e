"""release.hosts.journal: two runs that write at once, and one that was killed. Real processes."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

import msgspec

from release.hosts.journal import Journal


def _write(folder: Path, who: int) -> None:
    for number in range(50):
        Journal(folder).append(who=who, number=number, text="x" * 500)


def test_two_runs_at_once_keep_each_others_lines(tmp_path: Path) -> None:
    """All of them whole."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(tmp_path, who)) for who in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    lines = tmp_path.joinpath("history.jsonl").read_bytes().splitlines()
    assert len([msgspec.json.decode(line) for line in lines]) == 100


def test_a_killed_run_is_found_by_its_hosts_and_root(tmp_path: Path) -> None:
    """And by nobody else's."""
    code = (
        "import sys; from pathlib import Path; from release.hosts import journal;"
        "journal.Journal(Path(sys.argv[1])).begin("
        "journal.new_run('deploy', version='2.0', root='/srv/p', hosts=['a', 'b']))"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root, check=True)
    memory = Journal(tmp_path)
    (run,) = memory.abandoned("/srv/p", ["b", "c"])
    assert (run.action, run.version, run.hosts) == ("deploy", "2.0", ["a", "b"])
    assert memory.abandoned("/srv/p", ["c"]) == []
    assert memory.abandoned("/srv/other", ["a"]) == []
