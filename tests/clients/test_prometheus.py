"""Prometheus: its own tool judges rules and metrics; a real one scrapes a real service through an outage."""

import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from etl.testing.emulator import Emulator, Faults
from tests.support.command import Command
from tests.support.paths import ROOT
from tests.support.ports import a_free_port
from tests.support.processes import Child, running_service

_DEPLOY = ROOT / "deploy"
_PATIENCE = 90.0  # seconds
# The service's address, and the rules with the waits of a test. Scraped so often that each run is seen.
_CONFIG = """
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: [alerts.yml]
scrape_configs: [{{job_name: aims360-etl, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""


def promtool(*words: str | Path, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """What promtool says."""
    return subprocess.run(["promtool", *words], input=given, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    "words",
    [
        ("check", "rules", "--lint-fatal", "alerts.yml"),
        ("check", "config", "--lint-fatal", "prometheus.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
)
def test_promtool_approves(words: tuple[str, ...]) -> None:
    """The rules are rules, the example is a configuration, and each alert fires and clears when it should."""
    done = promtool(*words[:-1], _DEPLOY / "prometheus" / words[-1])
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_tests_notice_a_rule_that_changed(tmp_path: Path) -> None:
    """A threshold moved by five minutes, and they fail."""
    folder = _DEPLOY / "prometheus"
    rules = (folder / "alerts.yml").read_text(encoding="utf-8")
    (tmp_path / "alerts.yml").write_text(rules.replace("> 900", "> 1800"), encoding="utf-8")
    (tmp_path / "alerts_test.yml").write_bytes((folder / "alerts_test.yml").read_bytes())
    assert promtool("test", "rules", tmp_path / "alerts_test.yml").returncode == 1


def test_the_file_of_a_run_follows_prometheus_conventions(command: Command, tmp_path: Path) -> None:
    """promtool has no objection to names, types and help."""
    file = tmp_path / "aims360.prom"
    for words in (["sync"], ["sync"], ["purge"]):
        assert command.run(*words, "--metrics-file", str(file))[0] == 0
    checked = promtool("check", "metrics", given=file.read_text(encoding="utf-8"))
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_a_service_is_scraped_and_its_alerts_fire_and_clear(
    command: Command, emulator: Emulator, tmp_path: Path
) -> None:
    """A source that refuses everything for a while: behind and failing, then neither; every panel has an answer."""
    scraped = a_free_port()
    with serving(command, scraped), prometheus(tmp_path, scraped) as ask:
        until(lambda: value(ask, 'aims360_etl_rows_total{outcome="inserted"}') == 300)
        until(lambda: not firing(ask))
        emulator.set_faults(Faults(rate=1.0, kinds=("expired-token",)))
        until(lambda: {"Aims360EtlBehind", "Aims360EtlFailing"} <= firing(ask))
        emulator.set_faults(Faults())
        until(lambda: not firing(ask))
        assert value(ask, 'sum(aims360_etl_requests_total{status="401"})') >= 1
        assert value(ask, 'sum(aims360_etl_runs_total{outcome="failed"})') >= 1
        assert silent_panels(ask) == []


Ask = Callable[[str], list[dict[str, Any]]]


def value(ask: Ask, expression: str) -> float:
    """The value of an expression with one; -1 where there is none yet."""
    found = ask(expression)
    return float(found[0]["value"][1]) if found else -1.0


def firing(ask: Ask) -> set[str]:
    """The alerts that fire now."""
    return {each["metric"]["alertname"] for each in ask('ALERTS{alertstate="firing"}')}


def silent_panels(ask: Ask) -> list[str]:
    """Panels of the dashboard that have nothing to show."""
    dashboard = json.loads((_DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
    asked = {
        target["expr"].replace("$source", ".*").replace("$__rate_interval", "1m"): panel["title"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }
    return [title for expression, title in asked.items() if not ask(expression)]


def until(is_so: Callable[[], bool]) -> None:
    """Waits until it is so; fails where it doesn't come to that."""
    deadline, pause = time.monotonic() + _PATIENCE, threading.Event()
    while not is_so():
        assert time.monotonic() < deadline, "that took too long"
        pause.wait(0.2)


@contextmanager
def serving(command: Command, port: int) -> Iterator[None]:
    """`sync --every 1s`, as a service manager would run it."""
    words = ["sync", "--every", "1s", "--metrics-port", str(port)]
    with running_service([sys.executable, "-m", "etl", *words], command.environ, command.folder):
        yield


@contextmanager
def prometheus(folder: Path, scraped: int) -> Iterator[Ask]:
    """A Prometheus with the alert rules, ten seconds in place of their waits; it answers expressions."""
    port, rules = a_free_port(), (_DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
    hasty = re.sub(r"\bfor: \S+", "for: 0s", rules).replace("> 900", "> 10")
    (folder / "alerts.yml").write_text(hasty, encoding="utf-8")
    (folder / "prometheus.yml").write_text(_CONFIG.format(port=scraped), encoding="utf-8")

    def ask(expression: str) -> list[dict[str, Any]]:
        address = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(expression)}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                told = json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503:  # it is starting
                raise
            return []
        except OSError:  # it isn't there yet
            return []
        found: list[dict[str, Any]] = told["data"]["result"]
        return found

    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with Child(
        ["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield ask
        finally:
            process.terminate()
            process.wait(30)
