"""Memory given back; `tests/service/test_memory.py` measures how much."""

from engine.base.memory import trim_memory


def test_trimming_is_safe_at_any_time() -> None:
    trim_memory()
    trim_memory()
