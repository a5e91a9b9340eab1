"""Completions: what bash offers after TAB. zsh and fish are asked in tests/clients/test_shells.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "aims360-etl"
# What bash does at TAB: the words go into COMP_WORDS, and the function that the script registered fills COMPREPLY.
_TAB = """
eval "$(aims360-etl completions bash)"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
[[ $(complete -p aims360-etl) =~ -F\\ ([a-z0-9_]+) ]]
"${BASH_REMATCH[1]}" aims360-etl
printf '%s\\n' "${COMPREPLY[@]}"
"""


def shell(folder: Path, command: list[str], **settings: str) -> subprocess.CompletedProcess[str]:
    """A shell that finds the command, in a folder of its own, with these settings."""
    return subprocess.run(
        command,
        env={"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "HOME": str(folder), **settings},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def offered(folder: Path, *words: str, **settings: str) -> list[str]:
    """What bash offers for the last of the words, once nothing was said beside it."""
    done = shell(folder, ["bash", "-c", _TAB, "tab", PROGRAM, *words], **settings)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_commands_options_and_choices_are_completed(tmp_path: Path) -> None:
    """Of a command begun, of its options, and of what an option can be; a group's commands too."""
    assert offered(tmp_path, "re") == ["reconcile", "report"]
    assert offered(tmp_path, "sync", "--fu") == ["--full"]
    assert offered(tmp_path, "report", "growth", "--format", "") == ["table", "csv", "parquet", "json"]
    assert offered(tmp_path, "db", "st") == ["start", "stop"]
    assert offered(tmp_path, "completions", "") == ["bash", "zsh", "fish"]


def test_reports_are_completed(tmp_path: Path) -> None:
    """All that can be asked."""
    assert offered(tmp_path, "report", "fail") == ["failing_reports", "failure_causes", "failures_by_person"]
    assert offered(tmp_path, "report", "*") == []


def test_sources_are_completed_from_the_file_and_without_a_database(tmp_path: Path) -> None:
    """Names that are one word to a shell; secrets may be missing; DATABASE_URL leads nowhere."""
    file = tmp_path / "elsewhere.toml"
    file.write_text('[sources.west]\ntoken_env = "NOT_SET"\n[sources.whole]\n[sources."w $(x)"]\n[sources.east]\n')
    settings = {"AIMS360_CONFIG": str(file), "DATABASE_URL": "postgresql://nobody@192.0.2.1/nowhere"}
    assert offered(tmp_path, "sync", "--source", "w", **settings) == ["west", "whole"]
    assert offered(tmp_path, "grant", "--source", "e", **settings) == ["east"]
    assert offered(tmp_path, "sync", "--source", "") == ["aims360"]


@pytest.mark.parametrize(
    "settings",
    [{"AIMS360_CONFIG": "missing.toml"}, {"AIMS360_TPYO": "1"}, {"DATABASE_URL": "http://wrong"}],
    ids=["no file", "no such setting", "no address"],
)
def test_settings_that_cannot_be_read_offer_nothing_and_say_nothing(tmp_path: Path, settings: dict[str, str]) -> None:
    """What a shell prints after TAB would land in the line that somebody writes; all else is completed as ever."""
    assert offered(tmp_path, "sync", "--source", "", **settings) == []
    assert offered(tmp_path, "syn", **settings) == ["sync"]


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_scripts_are_printed_without_a_word_beside_them(tmp_path: Path, name: str) -> None:
    """Whatever shells are here, and whatever is set: they are evaluated as they come."""
    done = shell(tmp_path, [sys.executable, "-m", "etl", "completions", name], AIMS360_CONFIG="missing.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "_AIMS360_ETL_COMPLETE" in done.stdout
    if name == "bash":
        checked = subprocess.run(["bash", "-n"], input=done.stdout, text=True, capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")
