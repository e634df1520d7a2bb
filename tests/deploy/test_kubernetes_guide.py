"""
``docs/howto/kubernetes.md``: what it tells people to type works, as far as that needs no cluster.

Its files are written as it shows them, beside a copy of ``deploy``; its Secret is made by the line that it shows.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from broker.cli import main, parser
from broker.config.load import load_settings
from tests.deploy.manifests import (
    BROKER,
    KUBERNETES,
    PATIENCE,
    ROOT,
    SECRET,
    container,
    key_files,
    kubectl,
    mounts,
    one,
    pod,
    rendered_at,
    workload,
)
from tests.deploy.pod_security import violations
from tests.deploy.references import loose_ends
from tests.deploy.schemas import NEWEST, check

PAGE = (ROOT / "docs" / "howto" / "kubernetes.md").read_text()

TYPED = re.findall(r"^\$ (.+)$", PAGE, re.MULTILINE)

RENDERED = [line for line in TYPED if line.startswith("kubectl kustomize ") and "|" not in line]


def block(language: str, containing: str) -> str:
    """Give the only block of the page in *language* that contains a text."""
    texts: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (found,) = [text for text in texts if containing in text]
    return found


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A directory with a copy of ``deploy`` in ``token-broker``."""
    shutil.copytree(ROOT / "deploy", tmp_path / "token-broker" / "deploy")
    return tmp_path


@pytest.mark.parametrize("line", RENDERED)
def test_what_is_to_be_rendered_can_be(line: str) -> None:
    """Every folder that the page names."""
    done = subprocess.run(
        (kubectl(), *shlex.split(line)[1:]), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert list(yaml.safe_load_all(done.stdout))


def test_every_overlay_is_on_the_page() -> None:
    """What is there is found by who reads it."""
    named = {line.split()[-1] for line in RENDERED}

    there = {str(path.parent.relative_to(ROOT)) for path in (KUBERNETES / "overlays").glob("*/kustomization.yaml")}
    assert there | {"deploy/kubernetes/base", "deploy/kubernetes/monitoring"} == named
    folders = {path.parent.name for path in KUBERNETES.rglob("kustomization.yaml")}
    assert [name for name in folders if f"`{name}/`" not in PAGE and f"`overlays/{name}`" not in PAGE] == []


@pytest.mark.parametrize("line", [line for line in TYPED if "token-broker " in line.replace("-- token-broker", "")])
def test_commands_of_the_broker_exist(line: str) -> None:
    """Whether they are typed here or in the pod."""
    words = shlex.split(line)
    if words[0] == "kubectl" and "--" in words:
        words = words[words.index("--") + 1 :]
    if words[0] == BROKER:
        parser().parse_args(words[1:])


def test_the_secret_has_the_files_that_the_configuration_names(tmp_path: Path) -> None:
    """The line that makes it is the one of the page."""
    (line,) = [line for line in TYPED if f"create secret generic {SECRET}" in line]
    wanted = {
        file.name
        for file in key_files(load_settings(KUBERNETES / "config" / "config.toml", credentials_directory=None))
    }
    for name in wanted:
        (tmp_path / name).write_text("key")

    done = subprocess.run(
        (kubectl(), *shlex.split(line)[1:], "--dry-run=client", "--output=yaml"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    secret = yaml.safe_load(done.stdout)
    assert secret["metadata"]["name"] == SECRET
    assert set(secret["data"]) == wanted


def test_the_pull_secret_is_one_and_reaches_the_pods(tmp_path: Path) -> None:
    """Its only key is the one that the kubelet looks for, and the service account that is patched is everybody's."""
    (made,) = [line for line in TYPED if "dockerconfigjson" in line]
    (patched,) = [line for line in TYPED if "patch serviceaccount" in line]
    (tmp_path / "auth.json").write_text('{"auths": {}}')
    account = tmp_path / "account.yaml"
    account.write_text("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: default}\n")

    secret = yaml.safe_load(said(made, "--dry-run=client", "--output=yaml", cwd=tmp_path))
    words = patched.replace("serviceaccount default", f"--local --filename={account}")
    changed = yaml.safe_load(said(words, "--output=yaml", cwd=tmp_path))

    assert secret["type"] == "kubernetes.io/dockerconfigjson"
    assert set(secret["data"]) == {".dockerconfigjson"}
    assert changed["imagePullSecrets"] == [{"name": secret["metadata"]["name"]}]


def said(line: str, *more: str, cwd: Path) -> str:
    """Run a line for kubectl with *more* behind it; give what it printed."""
    command = (kubectl(), *shlex.split(line)[1:], *more)
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("line", [line for line in TYPED if line.startswith("kubectl ") and "|" not in line])
def test_kubectl_knows_each_command_and_option(line: str, tmp_path: Path) -> None:
    """Also those that only a cluster could answer: help is given for what exists, and options are read before."""
    typed, inside, _ = line.partition(" -- ")
    (tmp_path / "auth.json").write_text("{}")

    helped = said(typed, "--help", cwd=tmp_path)

    assert "Usage:" in helped
    verb = next(word for word in shlex.split(typed)[1:] if word not in {"--namespace", "tokens"})
    assert f"kubectl {verb}" in helped.partition("Usage:")[2]
    assert inside == "" or verb == "exec"


def test_links_of_alerts_lead_to_ones_own_pages() -> None:
    """The line puts an address in the place of the one that nobody has, and what comes out is still a rule."""
    (line,) = [line for line in TYPED if line.startswith("kubectl kustomize ") and "|" in line]
    render, change, apply = (shlex.split(part) for part in line.split("|"))
    assert apply == ["kubectl", "--namespace", "tokens", "apply", "-f", "-"]

    rendered = said(shlex.join(render), cwd=ROOT)
    changed = subprocess.run(change, input=rendered, capture_output=True, text=True, timeout=PATIENCE, check=True)

    rule = one(list(yaml.safe_load_all(changed.stdout)), "PrometheusRule")
    links = [alert["annotations"]["runbook_url"] for group in rule["spec"]["groups"] for alert in group["rules"]]
    assert {link.partition("#")[0] for link in links} == {"https://docs.bank.example/token-broker/howto/runbook.html"}


@pytest.fixture
def mine(clone: Path) -> Path:
    """The application of the page: its files, and the configuration of the example."""
    folder = clone / "my-app"
    folder.mkdir()
    for name in ("kustomization.yaml", "app.yaml", "policy.yaml"):
        (folder / name).write_text(block("yaml", f"# my-app/{name}"))
    shutil.copy(KUBERNETES / "config" / "config.toml", folder)
    return folder


def test_an_application_of_ones_own_gets_the_sidecar(mine: Path) -> None:
    """With the files of the page and a configuration it is whole, restricted, and has the image that it names."""
    manifests = rendered_at(mine)

    spec = pod(manifests)
    assert violations(spec) == []
    assert list(loose_ends(manifests)) == []
    assert container(spec, BROKER)["image"] == "registry.example.com/token-broker:0.1.0"
    assert mounts(container(spec, "my-app")).keys() & mounts(container(spec, BROKER)).keys() == {"token-broker-app"}
    check(manifests, NEWEST)


def test_the_policy_of_the_application_is_about_its_pods(mine: Path) -> None:
    """Beside that of the broker; each opens what it needs, in both directions."""
    manifests = rendered_at(mine)

    policies = [manifest for manifest in manifests if manifest["kind"] == "NetworkPolicy"]
    labels = workload(manifests)["spec"]["template"]["metadata"]["labels"]
    assert {policy["metadata"]["name"] for policy in policies} == {"my-app", BROKER}
    for policy in policies:
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        assert {"ingress", "egress"} <= policy["spec"].keys()


def test_an_application_without_the_label_has_no_broker(mine: Path) -> None:
    """As the page says, and nothing complains: that is why the page says so."""
    app = mine / "app.yaml"
    app.write_text(app.read_text().replace("token-broker: sidecar", "other: label"))

    spec = pod(rendered_at(mine))

    assert "initContainers" not in spec


def test_a_second_workload_has_a_socket_of_its_own(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The patch and the sections of the page fit each other, and the application of the page."""
    (mine / "reports.yaml").write_text(block("yaml", "# my-app/reports.yaml"))
    kustomization = mine / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text() + block("yaml", "# to add to my-app/kustomization.yaml"))
    config = mine / "config.toml"
    config.write_text(config.read_text() + block("toml", "[listener.reports]"))
    config.chmod(0o644)

    manifests = rendered_at(mine)

    spec = pod(manifests)
    app, reports = container(spec, "my-app"), container(spec, "reports")
    assert violations(spec) == []
    assert list(loose_ends(manifests)) == []
    assert mounts(app).keys() & mounts(reports).keys() == set()
    assert mounts(reports).keys() <= mounts(container(spec, BROKER)).keys()
    check(manifests, NEWEST)
    settings = load_settings(config, credentials_directory=None)
    listener = {each.name: each for each in settings.listeners}["reports"]
    assert {"name": "TOKEN_BROKER_SOCKET", "value": f"unix://{listener.path}"} in reports["env"]  # type: ignore[union-attr]
    known = {each.name: each for each in settings.workloads}["reports"]
    assert known.uids == {reports["securityContext"]["runAsUser"]}
    assert main(["check", "--syntax", "--config", str(config)]) == 0
    assert capsys.readouterr().err == ""


def test_a_store_in_an_older_cluster_is_both_overlays_at_once(clone: Path) -> None:
    """Components compose: what is patched by name is found before the container is moved."""
    mine = clone / "my-app"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "resources": ["../token-broker/deploy/kubernetes/overlays/state"],
                "components": ["../token-broker/deploy/kubernetes/ordinary"],
            }
        )
    )

    manifests = rendered_at(mine)

    assert [each["name"] for each in pod(manifests)["containers"]] == [BROKER, "app"]
    assert "token-broker-state" in mounts(container(pod(manifests), BROKER))
    assert workload(manifests)["spec"]["strategy"] == {"type": "Recreate"}
