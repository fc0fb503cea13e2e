"""Records of varnishlog become answers of origins."""

from engine.cli.varnish_log import Assembler, Logged

ID = "edge-1.5.1764500000"


def lines(transaction: int, *texts: str, end: str = "end") -> list[str]:
    found = [
        f"{transaction:>10} VCL_Log        b purgeline-groups {n} {text}" for n, text in enumerate(texts)
    ]
    return [*found, f"{transaction:>10} VCL_Log        b purgeline-groups {end}"]


def read(assembler: Assembler, *records: str) -> list[Logged]:
    return [logged for record in records if (logged := assembler.read(record)) is not None]


def test_records_of_an_answer_are_put_together_beside_those_of_others() -> None:
    assembler = Assembler()
    one = lines(5, f'{ID} POST 201 shop.example.com "a", ', '"b c"')
    other = lines(7, f'{ID} PUT 303 b.org:8080 "x"')
    mixed = [one[0], other[0], one[1], other[1], "not a record", one[2]]
    assert read(assembler, *mixed) == [
        Logged(ID, 1764500000, "PUT", 303, "b.org:8080", '"x"'),
        Logged(ID, 1764500000, "POST", 201, "shop.example.com", '"a", "b c"'),
    ]
    assert assembler.broken == 0


def test_a_comma_in_a_group_does_not_cut_it() -> None:
    [logged] = read(Assembler(), *lines(5, ID + r' POST 200 b.org "a", "b\",c", "d, e', end="cut"))
    assert logged.groups == r'"a", "b\",c"'


def test_what_was_cut_ends_with_its_last_whole_group() -> None:
    assert read(Assembler(), *lines(5, f'{ID} POST 200 b.org "a", "b", "cc', end="cut")) == [
        Logged(ID, 1764500000, "POST", 200, "b.org", '"a", "b"', is_cut=True)
    ]


def test_an_answer_of_which_a_record_is_missing_is_counted_and_not_made_up() -> None:
    assembler = Assembler()
    first, second, third, end = lines(5, f'{ID} POST 200 b.org "a', 'b", "c', 'd"')
    assert read(assembler, first, third, end) == []
    assert read(assembler, second, third, end) == []
    assert read(assembler, end) == []
    assert assembler.broken == 3
    assert len(read(assembler, first, first, second, third, end)) == 1
    assert assembler.broken == 3


def test_what_never_ends_is_forgotten() -> None:
    assembler = Assembler()
    for transaction in range(1001):
        read(assembler, lines(transaction, f'{ID} POST 200 b.org "a"')[0])
    assert assembler.broken == 1
    assert read(assembler, lines(0, "")[-1]) == []
    assert len(read(assembler, lines(1000, "")[-1])) == 1
