"""What the engine says about how long caches take."""

import json
from pathlib import Path

from release.lab import caches
from release.lab.origin import Origin
from tests.rigs.engine_process import EngineProcess, node_table
from tests.waiting import wait_until


def test_durations_of_answers_are_finer_than_a_millisecond(origin: Origin, tmp_path: Path) -> None:
    """A cache next door answers in less; 0 or 1 would be all that a clock of milliseconds had to say."""
    with (
        caches.start_varnish(tmp_path, name="edge-1", backend=origin.address) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1"), log_subtasks=True) as engine,
    ):
        for number in range(10):
            engine.wait_for(engine.submit([f"http://img.example.com/{number}"]))

        def durations_ms() -> list[float]:
            lines = [json.loads(line) for line in engine.log().splitlines() if '"subtask"' in line]
            return [line.get("duration_ms", 0.0) for line in lines]

        wait_until(lambda: len(durations_ms()) == 10, what="a log line for each answer")
        assert all(duration_ms > 0 for duration_ms in durations_ms())
        assert any(abs(duration_ms - round(duration_ms)) > 0.01 for duration_ms in durations_ms())
