"""How a node is probed that is itself an engine: it is asked nothing, and its signature is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from engine.errors import EngineError
from engine.nodes.health import NodeState
from engine.nodes.probe import Problem
from engine.tree.link import LinkError
from engine.tree.seal import SealError
from engine.tree.words import ASK, VERSION, Answer, Question

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.nodes.judge import Judge
    from engine.tree.link import Link
    from engine.tree.place import Place

_NOTHING = msgspec.json.encode(Question())
_decode = msgspec.json.Decoder(Answer).decode


class Hello:
    """Asks one child whether it is there, and which protocol it speaks.

    Args:
        link: to it.
        place: this engine's.
        judge: of the node: told that it is proven.
        name: of the node.
        on_version: told which version the child speaks.
    """

    def __init__(
        self, link: Link, place: Place, judge: Judge, name: str, on_version: Callable[[int], None]
    ) -> None:
        self._link = link
        self._place = place
        self._judge = judge
        self._name = name
        self._on_version = on_version

    async def ask(self) -> Problem | None:
        """Return None when it answers as a node that tasks may be handed to, otherwise what is wrong."""
        try:
            said = await self._link.post(ASK, _NOTHING, path=await self._place.path_of(""))
            answer = _decode(said.body)
        except LinkError as exc:
            return Problem(str(exc), NodeState.SICK if exc.is_sick else NodeState.DOWN)
        except SealError as exc:
            return Problem(str(exc), NodeState.UNPROVEN)
        except EngineError as exc:
            return Problem(str(exc), NodeState.DOWN)
        except msgspec.DecodeError as exc:
            return Problem(f"what {self._name} answers cannot be read: {exc}", NodeState.SICK)
        if answer.version < 1:
            return Problem(f"{self._name} speaks no version of the tree that {VERSION} knows", NodeState.DOWN)
        self._on_version(answer.version)
        trusted = self._link.trusted
        if trusted is not None:
            if trusted.is_own(said.kid):
                trusted.vouch(answer.keys)
            self._judge.is_signed()
        return None
