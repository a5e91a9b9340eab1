"""Builds source distribution and wheel, and proves both: `make dist`.

The source distribution holds what git knows and nothing else; from its files unpacked the wheel is made, and the tests
that look at all of them pass. Each of the two is installed into a fresh environment, as pip or uv does it, and its
commands run there from an empty folder, with an empty HOME, against an emulator of its own.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
HATCH = [sys.executable, "-m", "hatchling", "build", "-d", DIST]
WHOLE = ["tests/project", "tests/config/test_settings.py"]
WORDS = (["--version"], ["migrate"], ["sync"], ["report", "data_freshness"], ["status"], ["db", "stop"])
PATIENCE = 60  # seconds for the emulator's first lines
# Removes the cluster, which lies outside of HOME where root runs this.
TIDY_UP = "import sys; from pathlib import Path; from etl.postgres import embedded; embedded.remove(Path(sys.argv[1]))"


def main() -> None:
    """Leaves dist/*.whl and dist/*.tar.gz behind; CalledProcessError where the proof fails."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        home, empty = place / "home", place / "empty"
        home.mkdir()
        empty.mkdir()
        source, unpacked = build_source(place)
        wheel = build_wheel(unpacked)
        look_at(unpacked)
        install(wheel, place / "venv")
        try:
            prove(place / "venv" / "bin" / "aims360-etl", home, empty)
            install_source(source, place / "venv")
            prove(place / "venv" / "bin" / "aims360-etl", home, empty)
        finally:
            for lock in home.rglob("postgres.lock"):
                run([place / "venv" / "bin" / "python", "-c", TIDY_UP, lock.parent], empty, {})
        print(f"proven: {source.relative_to(ROOT)}, {wheel.relative_to(ROOT)}")


def build_source(place: Path) -> tuple[Path, Path]:
    """The source distribution, and the folder that it was unpacked into: it holds what git knows, if git is here."""
    shutil.rmtree(DIST, ignore_errors=True)
    run([*HATCH, "-t", "sdist"], ROOT)
    [source] = DIST.glob("*.tar.gz")
    shutil.unpack_archive(source, place)
    unpacked = place / source.name.removesuffix(".tar.gz")
    asked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if known := set(asked.stdout.splitlines()):
        held = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()} - {"PKG-INFO"}
        if held != known:
            raise SystemExit(f"not proven: {source.name} and git differ in {sorted(held ^ known)}")
    return source, unpacked


def build_wheel(unpacked: Path) -> Path:
    """The wheel, from the unpacked source distribution."""
    run([*HATCH, "-t", "wheel"], unpacked)
    [wheel] = DIST.glob("*.whl")
    return wheel


def look_at(unpacked: Path) -> None:
    """The tests that hold files to one another, run there: whoever has the source distribution can run them all."""
    print(f"+ pytest {' '.join(WHOLE)}", flush=True)
    run([sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *WHOLE], unpacked)


def install(wheel: Path, venv: Path) -> None:
    """The wheel with what it says it needs, and nothing else, in an environment of its own; in the pinned versions."""
    pins = re.findall(r"^([a-z0-9][^\\\n]*?) *\\?$", (ROOT / "pins.txt").read_text(encoding="utf-8"), re.MULTILINE)
    constraints = venv.with_name("constraints.txt")
    constraints.write_text("\n".join(pins), encoding="utf-8")
    wanted = ["--constraint", constraints, f"{wheel}[embedded]"]
    python = venv / "bin" / "python"
    if uv := shutil.which("uv"):
        run([uv, "venv", "--quiet", "--no-project", "--python", sys.executable, venv], ROOT)
        run([uv, "pip", "install", "--quiet", "--python", python, *wanted], ROOT)
        run([uv, "pip", "check", "--quiet", "--python", python], ROOT)
    else:
        pip = [python, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
        run([sys.executable, "-m", "venv", venv], ROOT)
        run([*pip, "install", "--no-compile", *wanted], ROOT)
        run([*pip, "check"], ROOT)


def install_source(source: Path, venv: Path) -> None:
    """The source distribution in the wheel's place, built by the installer itself."""
    python = venv / "bin" / "python"
    if uv := shutil.which("uv"):
        run([uv, "pip", "install", "--quiet", "--python", python, "--reinstall", "--no-deps", source], ROOT)
    else:
        pip = [python, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
        run([*pip, "install", "--no-compile", "--force-reinstall", "--no-deps", source], ROOT)


def prove(command: Path, home: Path, empty: Path) -> None:
    """Runs what a first user runs; nothing may be written where they stand."""
    surroundings = {"PATH": os.defpath, "HOME": str(home)}
    with emulator(command, empty, surroundings) as settings:
        for words in WORDS:
            print(f"+ aims360-etl {' '.join(words)}", flush=True)
            run([command, *words], empty, {**surroundings, **settings})
    if left := list(empty.iterdir()):
        raise SystemExit(f"the commands left files where they ran: {left}")


@contextmanager
def emulator(command: Path, folder: Path, surroundings: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """A running emulator; yields the settings that it tells people to export."""
    process = subprocess.Popen(
        [command, "emulator", "--port", "0"], cwd=folder, env=surroundings, stdout=subprocess.PIPE, text=True
    )
    alarm = threading.Timer(PATIENCE, process.kill)
    alarm.start()
    try:
        assert process.stdout is not None
        told = next((line for line in process.stdout if line.startswith("export ")), None)
        alarm.cancel()
        if told is None:
            raise SystemExit("the emulator said no `export AIMS360_BASE_URL=…`")
        yield dict(word.split("=", 1) for word in shlex.split(told)[1:])
    finally:
        alarm.cancel()
        process.kill()
        process.wait()


def run(command: list[object], folder: Path, surroundings: Mapping[str, str] | None = None) -> None:
    subprocess.run([str(word) for word in command], cwd=folder, env=surroundings, stdin=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"not proven: {error}")
