"""What an engine of the version before says and reads, as it was recorded: version 2 of the protocol."""

from __future__ import annotations

import msgspec

from engine.intake.task_body import decode
from engine.tree.leaves import names_of, readable
from engine.tree.reading import answer_of
from engine.tree.words import SINCE, VERSION, Handed, lacking

OLD = 2
ANSWER = (
    b'{"version":2,"engine":"eu","release":"1.4.0","delayed":1,"tasks":[{"id":"t-1","seen":"3f2a91c0",'
    b'"state":"partial","total":4,"targets":2,"acked":2,"absent":1,"failed":1,"delayed":1,'
    b'"acked_at":1796082960.5,"settled_at":1796082961.5,"done":"1","errors":[{"node":"edge-2",'
    b'"target":"http://a/2","reason":"unreachable: refused"}],"age_s":2.5,"acked_ago_s":2.0,"digest":"00ff",'
    b'"name":"ab","skipped":[{"name":"squid-1","reason":"squid, cannot purge by regex"}],'
    b'"notes":[{"nodes":["edge-1"],"note":"purged hard"}]}],"unknown":["t-2"],"keys":[],"leaves":'
    b'{"seen":"76d94eb5","leaves":[{"name":"edge-1","state":"ready","layer":"edge","driver":"varnish"},'
    b'{"name":"fr/edge-2","state":"down","layer":"edge","driver":"nginx","reason":"http://x: refused",'
    b'"delayed":1,"oldest_delayed_s":3.5}]}}'
)
LINE = b'{"id":"t-1","targets":["http://a/1"],"due_s":60.0,"nodes":["edge-1"]}'


def test_answers_of_the_version_before_are_read_whole() -> None:
    answer = answer_of(ANSWER, "http://eu")
    [report] = answer.tasks
    assert (answer.version, answer.delayed, answer.unknown) == (OLD, 1, ["t-2"])
    assert (report.state, report.total, report.acked, report.failed, report.delayed) == (
        "partial",
        4,
        2,
        1,
        1,
    )
    assert (report.done, report.lost, report.digest, report.age_s) == ("1", "", "00ff", 2.5)
    assert (report.skipped[0].name, report.notes[0].nodes) == ("squid-1", ("edge-1",))
    assert answer.leaves is not None
    names = names_of(readable(answer.leaves), is_current=True)
    assert names.is_sure
    assert names.layers == {"edge", "fr/edge"}
    assert names.groups == frozenset()


def test_an_engine_of_the_version_before_is_handed_the_same_bytes_and_nothing_that_it_would_leave_out() -> (
    None
):
    """An id is made of them, and its digest: after a root was brought up it is the same task."""
    handed = Handed("t-1", ["http://a/1"], due_s=60.0, nodes=["edge-1"])
    assert msgspec.json.encode(handed) == LINE
    assert decode(LINE).groups is msgspec.UNSET
    assert lacking(handed, OLD) == ""
    handed.groups = ["canary"]
    assert lacking(handed, OLD) == "'groups' came with version 3"
    assert lacking(handed, VERSION) == ""
    assert all(OLD < since <= VERSION for since in SINCE.values())
