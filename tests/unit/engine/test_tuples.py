"""`NamedTuple` does what typing's does."""

from __future__ import annotations

import pickle
import typing

import pytest

from engine.base.tuples import NamedTuple


class Ours(NamedTuple):
    """A place."""

    name: str
    port: int = 80

    @property
    def both(self) -> str:
        """Both."""
        return f"{self.name}:{self.port}"


class Theirs(typing.NamedTuple):
    """A place."""

    name: str
    port: int = 80


def test_it_makes_tuples_with_names_defaults_and_methods() -> None:
    one = Ours("a")
    assert one == ("a", 80)
    assert tuple(one) == tuple(Theirs("a"))
    assert one._replace(port=1).both == "a:1"
    assert (Ours._fields, Ours._field_defaults) == (Theirs._fields, Theirs._field_defaults)
    assert (Ours.__doc__, Ours.__module__, repr(one)) == ("A place.", __name__, "Ours(name='a', port=80)")
    assert isinstance(one, tuple)
    match one:
        case Ours(name, port):
            assert (name, port) == ("a", 80)


def test_its_instances_are_pickled() -> None:
    assert pickle.loads(pickle.dumps(Theirs("a"))) == Ours("a")


def test_a_field_without_a_default_has_to_be_given() -> None:
    with pytest.raises(TypeError):
        Ours()  # type: ignore[call-arg]
