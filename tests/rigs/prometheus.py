"""A real Prometheus with the rules that the package brings, and what it scrapes."""

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from release.lab.caches import free_port
from tests.rigs.door import TOKEN
from tests.waiting import wait_until

RULES = Path(__file__).resolve().parents[2] / "templates/monitoring/rules.yml"
_SCRAPE_S = 0.3
_RANGE_S = 5  #: of rates and increases in hurried rules
_FOR = re.compile(r"^ +for: \w+\n", re.MULTILINE)
_RANGE = re.compile(r"\[\d+[mh]\]")
_AGES = {"> 1800": "> 2", "> 900": "> 3", "> 120\n": "> 12\n", "> 60\n": "> 1\n"}
"""Thresholds that are ages, in seconds, and what they are in hurried rules."""


def hurried(rules: str) -> str:
    """Return rules that tell at once: without ``for``, with short ranges, and ages of a second or three."""
    for age, short in _AGES.items():
        assert rules.count(age) == 1, age
        rules = rules.replace(age, short)
    return _RANGE.sub(f"[{_RANGE_S}s]", _FOR.sub("", rules))


class Prometheus:
    """One server in a folder of its own.

    Args:
        folder: for its configuration, rules and data.
        rules: text of the rules.
    """

    def __init__(self, folder: Path, rules: str) -> None:
        self.port = free_port()
        self._targets: set[int] = set()
        self._target_file = folder / "targets.json"
        self._log_path = folder / "prometheus.log"
        self._folder = folder
        rule_file = folder / "rules.yml"
        rule_file.write_text(rules)
        job = {
            "job_name": "purgeline",
            "authorization": {"credentials": TOKEN},
            "file_sd_configs": [{"files": [str(self._target_file)]}],
        }
        interval = f"{int(_SCRAPE_S * 1000)}ms"
        timing = {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
        settings = {"global": timing, "rule_files": [str(rule_file)], "scrape_configs": [job]}
        (folder / "prometheus.yml").write_text(json.dumps(settings))  # JSON is YAML
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._write_targets()
        command = [
            str(shutil.which("prometheus")),
            f"--config.file={self._folder}/prometheus.yml",
            f"--storage.tsdb.path={self._folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._is_ready, what=self._log_path.read_text, errors=(OSError,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()

    def _is_ready(self) -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)

    def _ask(self, path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    # What it scrapes

    def watch(self, port: int) -> None:
        """Scrape an engine, and wait until that has worked twice."""
        self._targets.add(port)
        self._write_targets()
        expression = f'count_over_time(up{{instance="127.0.0.1:{port}"}}[1m]) > 1'
        wait_until(lambda: self.query(expression), what=f"scrapes of {port}")

    def forget(self, port: int) -> None:
        """Scrape an engine no more."""
        self._targets.discard(port)
        self._write_targets()

    def _write_targets(self) -> None:
        text = json.dumps([{"targets": [f"127.0.0.1:{port}" for port in self._targets]}])
        new = self._target_file.with_suffix(".new")
        new.write_text(text)
        new.rename(self._target_file)

    # What it says

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of an instant query."""
        found: list[dict[str, Any]] = self._ask("query", query=expression)["result"]
        return found

    def firing(self, port: int) -> dict[str, dict[str, Any]]:
        """Return the alerts that fire about an engine, by name."""
        alerts = self._ask("alerts")["alerts"]
        return {
            one["labels"]["alertname"]: one
            for one in alerts
            if one["state"] == "firing" and one["labels"].get("instance") == f"127.0.0.1:{port}"
        }
