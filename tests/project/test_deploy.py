"""The files of `deploy/` and the Dockerfile: whole, safe, and in the words of the program."""

import json
import re
import shlex
import subprocess
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from etl.cli import main
from etl.config.settings import SETTINGS, read
from etl.reporting.metrics import families
from etl.reporting.metrics.http_server import HEALTH_PATH
from tests.support.paths import ROOT

DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
MARKDOWN = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PODS = ("cronjob", "deployment", "migrate", "worker")
UNITS = ("aims360-etl.service", "aims360-etl-once.service", "aims360-etl-worker@.service")
METRICS = set(families.LABELS)


def text(*parts: str) -> str:
    """A file of `deploy/`."""
    return DEPLOY.joinpath(*parts).read_text(encoding="utf-8")


def manifest(name: str) -> Any:
    """A Kubernetes manifest."""
    return yaml.safe_load(text("kubernetes", f"{name}.yaml"))


def pod(name: str) -> Any:
    """The pod that a manifest makes."""
    spec = manifest(name)["spec"]
    return spec.get("jobTemplate", {"spec": spec})["spec"]["template"]["spec"]


def unit(name: str) -> list[tuple[str, str]]:
    """Settings of a systemd unit, in their order."""
    lines = text("systemd", name).splitlines()
    return [(key, value) for key, _, value in (line.partition("=") for line in lines if "=" in line and line[0] != "#")]


# What aims360-etl is called with, anywhere.

_SPAN = re.compile(r"`([^`\n]+)`")
_FENCE = re.compile(r"^( *)```(?:sh|bash|console|shell|)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_CALL = re.compile(r"(?:^|[\"'(=;]|[;&|] |/bin/|^(?:[A-Z0-9_]+=\S+ +)+)aims360-etl((?: +[^\s`\")]+)+)")
_ENDS = re.compile(r"\d?[<>|&;)#].*|\\")


def calls(file: Path) -> Iterator[list[str]]:
    """The words after `aims360-etl`, wherever a file calls it; in what is prose only between backticks."""
    content = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        said = _SPAN.findall(re.sub(r"^ *```.*?```$", "", content, flags=re.DOTALL | re.MULTILINE))
        said += [line for _, block in _FENCE.findall(content) for line in block.splitlines()]
    else:
        lines = [line for line in content.splitlines() if not line.lstrip().startswith(("#", "rem "))]
        said = [*_SPAN.findall(content), *(_SPAN.sub("", line) for line in lines)]
    for line in said:
        for found in _CALL.findall(line.split(" # ")[0]):
            words = found.split()
            end = next((place for place, word in enumerate(words) if _ENDS.fullmatch(word)), len(words))
            yield [word.strip("'\",:") for word in words[:end]]
        for listed in re.findall(r'\["aims360-etl", ([^\]]+)\]', line):
            yield json.loads(f"[{listed}]")


def misunderstood(words: list[str]) -> str | None:
    """Why the program wouldn't know what to do, None where it would. `[--option]` and `a|b` are ways to say it."""
    words = [word.strip("[]").split("|")[0] for word in words if word not in ("…", "...", "WORDS...")]
    command: click.Command = main
    try:
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            name, *words = words
            if name not in command.commands:
                return f"no such command: {name}"
            command = command.commands[name]
        command.make_parser(click.Context(command)).parse_args(words)
    except click.UsageError as error:
        return error.format_message()
    return None


@pytest.mark.parametrize("file", [*FILES, *MARKDOWN], ids=lambda file: str(file.relative_to(ROOT)))
def test_every_call_of_the_program_is_understood(file: Path) -> None:
    """Commands and options that the files and the documentation tell to use are those of this program."""
    wrong = {" ".join(words): why for words in calls(file) if (why := misunderstood(words))}
    assert wrong == {}


def test_calls_are_found_where_they_stand() -> None:
    """The test above looks at what it says it looks at."""
    assert ["sync", "--every", "60s", "--metrics-port", "9363"] in calls(DEPLOY / "systemd" / "aims360-etl.service")
    assert ["sync", "--metrics-file", "/var/lib/aims360-etl-metrics/aims360.prom"] in calls(
        DEPLOY / "cron" / "aims360-etl"
    )
    assert ["status", "--check", "--max-lag", "30m", "--max-rejects", "10"] in calls(
        DEPLOY / "airflow" / "after_aims360.py"
    )
    assert len([words for file in MARKDOWN for words in calls(file)]) > 20
    assert misunderstood(["sync", "--ever", "60s"])
    assert misunderstood(["jobz"])
    assert misunderstood(["db", "halt"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(DEPLOY)))
def test_every_file_is_spoken_of(file: Path) -> None:
    """In one of the pages on operation, or by the Dockerfile that reads it."""
    pages = ("schedule.md", "fleet.md", "orchestrate.md", "watch.md")
    docs = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in pages)
    assert str(file.relative_to(ROOT)) in docs + DOCKERFILE


# Settings and secrets.


def test_settings_that_are_set_exist() -> None:
    """Every AIMS360_… and DATABASE_URL… of these files is a setting of the program."""
    known = {setting.name for setting in SETTINGS}
    known |= {f"{name}_FILE" for name in known}
    for file in [*FILES, ROOT / "Dockerfile"]:
        named = set(re.findall(r"\b(?:AIMS360_|DATABASE_URL)[A-Z_]*\b", file.read_text(encoding="utf-8")))
        assert named <= known, file


def test_no_file_holds_a_secret() -> None:
    """Secrets come from files that the schedule's account alone can read."""
    secret = re.compile(r"(?:TOKEN|SECRET|PASSWORD|DATABASE_URL)['\"]?\s*[=:]\s*\S")
    for file in [*FILES, ROOT / "Dockerfile"]:
        assert not secret.search(file.read_text(encoding="utf-8")), file


def test_the_settings_file_is_one_for_shells_systemd_and_powershell(tmp_path: Path) -> None:
    """A shell reads it to the same end as the script for Windows does, and as the program wants it."""
    file = DEPLOY / "aims360-etl.env"
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]*='[^'$`\\]*'", line) for line in lines)
    done = subprocess.run(
        ["/bin/sh", "-c", 'set -a; . "$0"; env', file], env={}, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    pairs = {name: value for name, _, value in (line.partition("=") for line in done.stdout.splitlines())}
    assert {line.partition("=")[0] for line in lines} <= pairs.keys()
    environ = {name: value for name, value in pairs.items() if name.startswith("AIMS360_")}
    assert read({**environ, "AIMS360_TOKEN": "token"}, tmp_path).source().base_url == pairs["AIMS360_BASE_URL"]


# cron and systemd.


def test_the_line_for_cron_is_one() -> None:
    """Five fields of time, a user, a command that a shell understands; no % for cron to end the line at."""
    lines = [line for line in text("cron", "aims360-etl").splitlines() if line and not line.startswith("#")]
    *settings, line = lines
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]*=\S+", setting) for setting in settings)
    fields = line.split(maxsplit=6)
    assert all(re.fullmatch(r"(?:\*|\d+(?:-\d+)?)(?:/\d+)?(?:,\d+)*", field) for field in fields[:5])
    assert fields[5] == "aims360"
    assert "%" not in line
    subprocess.run(["/bin/sh", "-n", "-c", fields[6]], check=True)
    assert text("cron", "aims360-etl").endswith("\n")  # cron ignores a last line without its end


def test_readmes_line_for_cron_is_understood_by_a_shell() -> None:
    """The short form, too."""
    [line] = re.findall(r"^\*/5 \* \* \* \* (.*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    subprocess.run(["/bin/sh", "-n", "-c", line], check=True)


@pytest.mark.parametrize("name", UNITS)
def test_units_are_hardened_and_get_their_secrets_as_credentials(name: str) -> None:
    """They write nowhere but in a folder of their own, can gain no rights, and no secret is in their environment."""
    found = unit(name)
    hardened = {"ProtectSystem": "strict", "ProtectHome": "yes", "NoNewPrivileges": "yes", "PrivateTmp": "yes"}
    assert hardened.items() <= dict(found).items()
    assert {"DynamicUser": "yes"}.items() <= dict(found).items() or dict(found)["User"] not in ("", "root")
    loaded = {value.partition(":")[0] for key, value in found if key == "LoadCredential"}
    assert {f"%d/{name}" for name in loaded} == set(re.findall(r"_FILE=(\S+)", dict(found)["Environment"]))


def test_the_service_tells_systemd_and_is_not_restarted_for_a_wrong_setting() -> None:
    """Ready, alive, and started again where it failed by chance."""
    found = dict(unit("aims360-etl.service"))
    expected = {"Type": "notify", "WatchdogSec": "15min", "Restart": "on-failure", "RestartPreventExitStatus": "2"}
    assert expected.items() <= found.items()
    assert "--every" in found["ExecStart"]
    once = dict(unit("aims360-etl-once.service"))
    assert {"Type": "oneshot", "SuccessExitStatus": "3 4"}.items() <= once.items()
    assert "OnCalendar" in dict(unit("aims360-etl-once.timer"))


def test_a_worker_tells_systemd_and_comes_back_when_it_was_killed() -> None:
    """Ready and alive; each of a machine's workers by its number, with a port of its own."""
    found = dict(unit("aims360-etl-worker@.service"))
    expected = {"Type": "notify", "WatchdogSec": "2min", "Restart": "on-failure", "RestartPreventExitStatus": "2"}
    assert expected.items() <= found.items()
    assert re.search(r" worker .*--metrics-port \d+%i$", found["ExecStart"])


# Kubernetes and containers.


@pytest.mark.parametrize("name", PODS)
def test_pods_have_no_rights_and_secrets_as_files(name: str) -> None:
    """Not root, nothing writable, no capability, no token of the cluster; and limits."""
    spec = pod(name)
    [container] = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    context = container["securityContext"]
    assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["requests"]["memory"]
    assert container["resources"]["limits"]["memory"]
    [mount] = container["volumeMounts"]
    data = manifest("settings")["data"]
    assert all(data[key].startswith(f"{mount['mountPath']}/") for key in data if key.endswith("_FILE"))
    assert container["envFrom"] == [{"configMapRef": {"name": manifest("settings")["metadata"]["name"]}}]
    assert misunderstood(container["args"]) is None


@pytest.mark.parametrize("name", PODS)
def test_probes_ask_whether_the_loop_lives_and_nothing_else(name: str) -> None:
    """A restart cures no source and no row: what can be probed has a port, and is asked for its health there alone."""
    [container] = pod(name)["containers"]
    probes = {key: probe for key, probe in container.items() if key.endswith("Probe")}
    assert bool(probes) == ("--metrics-port" in container["args"])
    for probe in probes.values():
        [port] = container["ports"]
        assert probe["httpGet"] == {"path": HEALTH_PATH, "port": port["name"]}
        assert str(port["containerPort"]) in container["args"]


def test_no_shipped_file_takes_the_check_for_a_probe() -> None:
    """`status --check` fails for a row that can't be read: it is for alerts and sensors."""
    asking = [file for file in [*FILES, ROOT / "Dockerfile"] if ["status", "--check"] in [w[:2] for w in calls(file)]]
    assert asking == [DEPLOY / "airflow" / "after_aims360.py"]


def test_the_cronjob_runs_one_at_a_time_and_tries_again_what_may_succeed() -> None:
    """Exit codes 2, 3 and 4 would come again: they aren't tried anew."""
    spec = manifest("cronjob")["spec"]
    assert (spec["concurrencyPolicy"], spec["startingDeadlineSeconds"] > 0) == ("Forbid", True)
    job = spec["jobTemplate"]["spec"]
    [rule] = [rule for rule in job["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert (rule["action"], rule["onExitCodes"]["operator"]) == ("FailJob", "In")
    assert rule["onExitCodes"]["values"] == [2, 3, 4]
    assert rule["onExitCodes"]["containerName"] == pod("cronjob")["containers"][0]["name"]
    assert pod("cronjob")["restartPolicy"] == "Never"  # podFailurePolicy wants it so


def test_the_deployment_is_one_writer() -> None:
    """Never two at once; its port is the one that is scraped."""
    spec = manifest("deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    [container] = pod("deployment")["containers"]
    port = str(container["ports"][0]["containerPort"])
    assert port in container["args"]
    assert spec["template"]["metadata"]["annotations"]["prometheus.io/port"] == port


def test_workers_are_many() -> None:
    """Any number at once, unlike a service; their port is the one that is scraped."""
    spec = manifest("worker")["spec"]
    assert spec["replicas"] > 1
    assert "strategy" not in spec
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    [container] = pod("worker")["containers"]
    [port] = container["ports"]
    assert str(port["containerPort"]) in container["args"]
    assert spec["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(port["containerPort"])


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and what they are given."""
    lines = [line for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]
    return [(word, given) for word, _, given in (line.partition(" ") for line in lines)]


def test_the_image_runs_without_rights_and_says_whether_it_is_well() -> None:
    """A number for its user, exec form everywhere, and nothing secret among its variables."""
    last = instructions()[max(place for place, (word, _) in enumerate(instructions()) if word == "FROM") :]
    given = dict(last)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", given["USER"])
    assert json.loads(given["ENTRYPOINT"]) == ["aims360-etl"]
    assert misunderstood(json.loads(given["CMD"])) is None
    program, option, code = json.loads(given["HEALTHCHECK"].partition("CMD ")[2])
    port = json.loads(given["CMD"])[json.loads(given["CMD"]).index("--metrics-port") + 1]
    assert (program, option) == ("python", "-c")
    assert f"'127.0.0.1', {port}," in code
    assert f"'{HEALTH_PATH}'" in code
    assert "AIMS360_" not in DOCKERFILE
    assert "DATABASE_URL" not in DOCKERFILE


def test_the_image_copies_what_is_there_and_is_let_through() -> None:
    """Each COPY names a file of the repository that .dockerignore doesn't keep back; all else stays outside."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    copied = {path for word, given in instructions() if word == "COPY" for path in given.split()[:-1] if path[0] != "-"}
    copied -= {"/opt/aims360-etl"}
    assert copied == let_through
    assert all((ROOT / path).exists() for path in copied)


@pytest.mark.parametrize(("name", "wanted"), [("pins.txt", None), ("pins-build.txt", "hatchling")])
def test_the_image_installs_what_was_tested(name: str, wanted: str | None) -> None:
    """Its pins are those of pins.txt, hashes and all: what the program and its workers need, and what builds it."""

    def blocks(file: Path) -> dict[str, str]:
        found = re.split(r"^(?=[a-z0-9])", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
        return {re.split(r"[=\[ ]", block)[0]: block for block in found}

    tested, pinned = blocks(ROOT / "pins.txt"), blocks(DEPLOY / name)
    assert {package: block for package, block in pinned.items() if tested.get(package) != block} == {}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wishes = [*project["dependencies"], *project["optional-dependencies"]["fleet"]]
    direct = {re.split(r"[\[><=! ]", line)[0] for line in wishes}
    assert {wanted} if wanted else direct <= pinned.keys(), "make pins"


def test_the_composition_is_of_this_image_and_keeps_its_secrets_in_files() -> None:
    """Migrated before the first sync, nothing writable, reached from this machine alone."""
    found = yaml.safe_load(text("compose.yaml"))
    services = found["services"]
    assert services["etl"]["image"] == services["migrate"]["image"]
    assert services["migrate"]["healthcheck"] == {"disable": True}  # the image's asks a service
    assert services["etl"]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert misunderstood(services["migrate"]["command"]) is None
    for name in ("etl", "migrate"):
        assert services[name]["read_only"] is True
        files = {v for k, v in services[name]["environment"].items() if k.endswith("_FILE")}
        assert files == {f"/run/secrets/{secret}" for secret in services[name]["secrets"]}
        assert set(services[name]["secrets"]) <= set(found["secrets"])
    assert all(port.startswith("127.0.0.1:") for port in services["etl"]["ports"])


# Airflow. `make test-orchestrators` runs it.


@pytest.mark.parametrize("name", ["aims360.py", "after_aims360.py"])
def test_the_page_shows_the_dags_as_they_are(name: str) -> None:
    """Who copies one from docs/orchestrate.md has the file that was tested."""
    page = (ROOT / "docs" / "orchestrate.md").read_text(encoding="utf-8")
    assert text("airflow", name) in re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


# Windows.


def test_the_task_for_windows_starts_no_second_run() -> None:
    """Every five minutes, with few rights, without a limit that would kill a first sync; the script is the one here."""
    names = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    task = ET.fromstring(text("windows", "aims360-etl.xml"))  # noqa: S314 - our own file

    def of(path: str) -> str:
        return task.findtext(path, "", names)

    assert of("t:Settings/t:MultipleInstancesPolicy") == "IgnoreNew"
    assert of("t:Settings/t:ExecutionTimeLimit") == "PT0S"
    assert of("t:Triggers/t:TimeTrigger/t:Repetition/t:Interval") == "PT5M"
    assert of("t:Principals/t:Principal/t:RunLevel") == "LeastPrivilege"
    assert text("windows", "aims360-etl.xml").isascii()  # whatever it is read as
    words = shlex.split(of("t:Actions/t:Exec/t:Arguments").replace("\\", "/"))
    assert words[words.index("-File") + 1].endswith("aims360-etl.ps1")
    assert misunderstood(words[words.index("-File") + 2 :]) is None
    assert "exit $LASTEXITCODE" in text("windows", "aims360-etl.ps1")


# Prometheus and Grafana.


def test_alerts_and_dashboard_ask_for_metrics_that_there_are() -> None:
    """Names and labels of etl/reporting/metrics/families.py, no other."""
    rules = [rule for group in yaml.safe_load(text("prometheus", "alerts.yml"))["groups"] for rule in group["rules"]]
    dashboard = json.loads(text("grafana", "dashboard.json"))
    asked = [rule["expr"] for rule in rules]
    asked += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [variable["definition"] for variable in dashboard["templating"]["list"] if "definition" in variable]
    assert all(re.search(r"aims360_etl_\w+", expression) for expression in asked)
    for expression in asked:
        assert set(re.findall(r"aims360_etl_\w+", expression)) <= METRICS, expression
        by = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", expression) for label in labels.split(",")}
        [names] = [set(families.LABELS[name]) for name in re.findall(r"aims360_etl_\w+", expression)[:1]]
        assert by <= names, expression


def test_every_alert_says_what_to_do_and_is_tested_to_fire_and_to_clear() -> None:
    """alerts_test.yml has a moment at which it fires, and a later one at which it doesn't."""
    rules = [rule for group in yaml.safe_load(text("prometheus", "alerts.yml"))["groups"] for rule in group["rules"]]
    tests = yaml.safe_load(text("prometheus", "alerts_test.yml"))["tests"]
    minutes: dict[str, list[tuple[int, bool]]] = {}
    for case in tests:
        for moment in case.get("alert_rule_test", ()):
            told = (int(moment["eval_time"].removesuffix("m")), bool(moment["exp_alerts"]))
            minutes.setdefault(moment["alertname"], []).append(told)
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description"}
        moments = minutes[rule["alert"]]
        first = min(minute for minute, fires in moments if fires)
        assert any(minute > first and not fires for minute, fires in moments), rule["alert"]


def test_every_panel_has_a_unit_a_description_and_a_place_of_its_own() -> None:
    """By source, from whatever Prometheus is chosen; no panel lies on another, or beyond the edge."""
    dashboard = json.loads(text("grafana", "dashboard.json"))
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all('source=~"$source"' in t["expr"] and "{{source}}" in t["legendFormat"] for t in panel["targets"])
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_guide_to_watching_names_every_metric() -> None:
    """The table of docs/watch.md is that of etl/reporting/metrics/families.py: name, labels, meaning."""
    guide = (ROOT / "docs" / "watch.md").read_text(encoding="utf-8")
    rows = [row for row in guide.splitlines() if row.startswith("| `aims360_etl_")]
    told = [
        f"| `{family.name}` | {', '.join(f'`{label}`' for label in family.labels)} | {family.help} |".replace(
            "|  |", "| |"
        )
        for family in families.FAMILIES
    ]
    assert rows == told
    alerts = re.findall(r"- alert: (\w+)", text("prometheus", "alerts.yml"))
    assert [name for name in alerts if f"`{name}`" not in guide] == []
