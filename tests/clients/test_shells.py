"""Completions in zsh and fish, put where docs/completions.md says. bash is asked in tests/cli/test_completions.py."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

_PATH = f"{Path(sys.executable).parent}:{os.defpath}"
_PATIENCE = 60  # seconds


def script(shell: str) -> str:
    """What `aims360-etl completions` prints for a shell."""
    command = [sys.executable, "-m", "etl", "completions", shell]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def fish(folder: Path, line: str) -> dict[str, str]:
    """What fish offers for a line that was begun, with what it says of each."""
    place = folder / ".config" / "fish" / "completions"
    place.mkdir(parents=True, exist_ok=True)
    (place / "aims360-etl.fish").write_text(script("fish"))
    done = subprocess.run(
        ["fish", "-c", f"complete -C '{line}'"],
        env={"PATH": _PATH, "HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = (each.partition("\t") for each in done.stdout.splitlines())
    return {word: said for word, _, said in lines}


def zsh(folder: Path, line: str, until: str) -> str:
    """What zsh shows after TAB on a line that was begun, up to a text that it must show."""
    place = folder / ".zfunc"
    place.mkdir(exist_ok=True)
    (place / "_aims360-etl").write_text(script("zsh"))
    (folder / ".zshrc").write_text('PS1="ready> "\nfpath+=~/.zfunc\nautoload -Uz compinit && compinit -u\n')
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        settings = {"PATH": _PATH, "HOME": str(folder), "TERM": "dumb", "COLUMNS": "200", "LINES": "50"}
        os.execvpe("zsh", ["zsh", "-i"], settings)  # noqa: S606 - a child of pty.fork
    try:
        _read(terminal, "ready> ")
        os.write(terminal, f"{line}\t".encode())
        return _read(terminal, until)
    finally:
        os.close(terminal)  # its hang-up ends the shell
        os.waitpid(child, 0)


def _read(terminal: int, until: str) -> str:
    """What the terminal shows, up to a text."""
    shown, deadline = "", time.monotonic() + _PATIENCE
    while until not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"{until!r} never came: {shown!r}"
        shown += os.read(terminal, 65536).decode(errors="replace")
    return shown


def test_fish_completes(tmp_path: Path) -> None:
    """Commands, options, choices, reports, sources."""
    (tmp_path / "aims360.toml").write_text("[sources.west]\n[sources.east]\n")
    assert set(fish(tmp_path, "aims360-etl re")) == {"reconcile", "report"}
    assert set(fish(tmp_path, "aims360-etl sync --fu")) == {"--full"}
    assert set(fish(tmp_path, "aims360-etl report growth --format p")) == {"parquet"}
    assert set(fish(tmp_path, "aims360-etl report failing")) == {"failing_reports"}
    assert set(fish(tmp_path, "aims360-etl sync --source ")) >= {"west", "east"}


def test_zsh_completes(tmp_path: Path) -> None:
    """A command, a report and a source are written out; of several commands their help is shown."""
    (tmp_path / "aims360.toml").write_text("[sources.west]\n[sources.east]\n")
    zsh(tmp_path, "aims360-etl recon", until="aims360-etl reconcile")
    zsh(tmp_path, "aims360-etl report failing", until="failing_reports")
    zsh(tmp_path, "aims360-etl sync --source w", until="--source west")
    assert "reconcile" in zsh(tmp_path, "aims360-etl re", until="analysts' questions")
