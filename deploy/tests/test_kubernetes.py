"""The manifests hold to their rules: read as they are, without a cluster."""

import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/k8s"
SERVICES: Final = ("gateway", "auth-service", "user-service")
STORES: Final = ("mysql", "redis", "redis-limits")
YOURS: Final = {"app": "orders", "gatehouse.org/service": "true"}
CALLED_BY_THE_GATEWAY: Final = ("auth-service", "user-service")
Part = Mapping[str, Any]
Peer = Part | None  # a pod by its labels; None is whatever has an address

# Who talks to whom; nothing else can be reached.
TALK: Final = {
    ("gateway", "auth-service", 8000),
    ("gateway", "auth-service", 9000),  # whether it is ready
    ("gateway", "user-service", 8000),
    ("gateway", "user-service", 9000),
    ("gateway", "redis", 6379),
    ("gateway", "redis-limits", 6379),
    ("auth-service", "user-service", 9000),
    ("auth-service", "redis", 6379),
    ("auth-service", "redis-limits", 6379),
    ("user-service", "auth-service", 8000),
    ("user-service", "mysql", 3306),
    ("user-service", "redis", 6379),
    ("outside", "gateway", 8000),
    ("prometheus", "gateway", 8000),  # as everybody
    ("prometheus", "gateway", 9000),
    ("prometheus", "auth-service", 9000),
    ("prometheus", "user-service", 9000),
    ("gateway", "orders", 8000),
    ("gateway", "orders", 9000),
    ("orders", "auth-service", 8000),
    ("orders", "redis", 6379),
    ("prometheus", "orders", 9000),
    *((name, "outside", 53) for name in (*SERVICES, *STORES, "orders", "stranger")),
    *(("user-service", "outside", port) for port in (25, 465, 587)),
}


@cache
def documents(name: str) -> list[Part]:
    """Those of a file, which is read once: one test looks into them thousands of times."""
    return list(yaml.safe_load_all((FOLDER / name).read_text("utf-8")))


def kustomization() -> Part:
    return documents("kustomization.yaml")[0]


def objects(kind: str) -> Iterator[Part]:
    """Each object of a kind in the files that the kustomization lists."""
    for name in kustomization()["resources"]:
        for found in documents(name):
            if found["kind"] == kind:
                yield found


def named(kind: str) -> dict[str, Part]:
    return {found["metadata"]["name"]: found for found in objects(kind)}


def pods() -> dict[str, Part]:
    """Of each deployment, what its pods are made from."""
    return {name: found["spec"]["template"]["spec"] for name, found in named("Deployment").items()}


def containers() -> Iterator[Part]:
    """Those that prepare a pod too."""
    for pod in pods().values():
        yield from pod.get("initContainers", [])
        yield from pod["containers"]


def settings() -> dict[str, str]:
    lines = (FOLDER / "settings.env").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_each_file_here_is_applied() -> None:
    listed = {*kustomization()["resources"], "kustomization.yaml"}
    assert listed == {file.name for file in FOLDER.glob("*.yaml")}
    assert set(pods()) == set(SERVICES)


def test_a_pod_takes_no_settings_from_the_services_of_its_namespace() -> None:
    assert {name: pod.get("enableServiceLinks") for name, pod in pods().items()} == dict.fromkeys(
        SERVICES, False
    )


def test_every_container_asks_for_cpu_and_memory_and_its_memory_is_bounded() -> None:
    for container in containers():
        resources = container["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}, container["name"]
        assert "memory" in resources["limits"], container["name"]


def test_every_container_is_held_to_what_the_restricted_profile_asks_and_a_root_it_cannot_write() -> None:
    assert named("Namespace")["gatehouse"]["metadata"]["labels"] == {
        "pod-security.kubernetes.io/enforce": "restricted"
    }
    for name, pod in pods().items():
        assert pod["automountServiceAccountToken"] is False, name
        held = pod["securityContext"]
        assert held["runAsNonRoot"] is True
        assert held["runAsUser"] == held["fsGroup"] == 10001
        assert held["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, container["name"]


def test_the_pods_of_a_service_are_spread_over_nodes_and_replaced_one_by_one() -> None:
    for name, found in named("Deployment").items():
        spread = found["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert [each["topologyKey"] for each in spread] == ["kubernetes.io/hostname"]
        labels = found["spec"]["template"]["metadata"]["labels"]
        assert labels == {"app": name} == spread[0]["labelSelector"]["matchLabels"]
        assert found["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        assert named("PodDisruptionBudget")[name]["spec"]["selector"]["matchLabels"] == labels


def test_a_pod_has_time_to_drain_before_it_is_killed() -> None:
    for name, pod in pods().items():
        # GRACEFUL_SECONDS' default, which leaves time after DRAIN_SECONDS.
        assert pod["terminationGracePeriodSeconds"] > 25 > int(settings()["DRAIN_SECONDS"]) + 2, name


def test_names_that_are_called_lead_to_every_pod_and_not_to_one_address_for_them_all() -> None:
    services = named("Service")
    for name in (*CALLED_BY_THE_GATEWAY, "gateway-pods"):
        assert services[name]["spec"]["clusterIP"] == "None", name
    for name, service in services.items():
        app = service["spec"]["selector"]["app"]
        (container,) = pods()[app]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for port in service["spec"]["ports"]:  # which a headless service does not translate
            assert port["port"] == ports[port["targetPort"]], name


def test_the_gateways_are_believed_by_name_from_before_they_are_ready_and_nobody_is_believed_by_default() -> (
    None
):
    peers = settings()["GATEWAY_PEERS"]
    spec = named("Service")[peers]["spec"]
    assert spec["selector"] == {"app": "gateway"}
    assert spec["publishNotReadyAddresses"] is True
    assert "TRUSTED_PROXIES" not in settings()


def test_a_changed_setting_replaces_the_pods() -> None:
    """The generated name carries a hash of the content, unless somebody turns that off."""
    (generator,) = kustomization()["configMapGenerator"]
    assert generator == {"name": "settings", "envs": ["settings.env"]}
    assert "generatorOptions" not in kustomization()
    for container in containers():
        assert container["envFrom"] == [{"configMapRef": {"name": "settings"}}]
    assert not list(objects("ConfigMap"))


def test_what_a_pod_mounts_is_made_by_these_files_or_by_the_commands_on_the_page() -> None:
    page = (FOLDER / "README.md").read_text("utf-8")
    loops = [
        (names.split(), made.split()[0])
        for names, made in re.findall(
            r"^for name in (.*); do\n +kubectl -n gatehouse create (secret generic \$name|configmap routes-\$name)",
            page,
            re.MULTILINE,
        )
    ]
    secrets = {name for names, made in loops if made == "secret" for name in names}
    routes = {f"routes-{name}" for names, made in loops if made == "configmap" for name in names}
    claims = set(named("PersistentVolumeClaim"))
    for name, pod in pods().items():
        for volume in pod["volumes"]:
            match volume:
                case {"secret": {"secretName": secret}}:
                    assert secret in secrets, name
                case {"configMap": {"name": made}}:
                    assert made in routes, name
                case {"persistentVolumeClaim": {"claimName": claim}}:
                    assert claim in claims, name
                case {"emptyDir": _}:
                    pass
                case _:
                    raise AssertionError(volume)


def test_what_the_page_makes_can_be_made_again() -> None:
    """`create` alone fails the second time; a rotation is a second time."""
    for file in (FOLDER / "README.md", *(ROOT / "deploy/runbooks").glob("*.md")):
        for line in file.read_text("utf-8").splitlines():
            if re.search(r"kubectl .*\bcreate\b", line):
                assert line.rstrip("; ").endswith("--dry-run=client -o yaml | kubectl apply -f -"), line


def test_the_routes_of_each_service_stand_where_the_gateway_reads_them() -> None:
    (container,) = pods()["gateway"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    for name in CALLED_BY_THE_GATEWAY:
        assert mounts[f"routes-{name}"] == f"/etc/gateway/routes.d/{name}"


def fits(selector: Part, labels: Mapping[str, str]) -> bool:
    """A label selector, as far as these files use them."""
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    wanted = selector.get("matchLabels", {}).items()
    expressions = selector.get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in expressions)
    return all(labels.get(key) == value for key, value in wanted) and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )


def admitted(pod: Part, direction: str, peer: Peer, port: int) -> bool:
    """Whether some policy of this pod lets it exchange with this peer, as the API's reference says."""
    ends = "from" if direction == "Ingress" else "to"
    selected = [
        policy["spec"]
        for policy in objects("NetworkPolicy")
        if direction in policy["spec"]["policyTypes"] and fits(policy["spec"]["podSelector"], pod["labels"])
    ]
    assert selected, "no policy at all lets everything pass"
    return any(
        (ends not in rule or any(is_peer(one, peer) for one in rule[ends]))
        and ("ports" not in rule or port in [one["port"] for one in rule["ports"]])
        for spec in selected
        for rule in spec.get(direction.lower(), [])
    )


def is_peer(described: Part, peer: Peer) -> bool:
    assert set(described) in ({"podSelector"}, {"namespaceSelector"})
    if peer is None:
        return False
    if "namespaceSelector" in described:
        return fits(described["namespaceSelector"], peer["namespace"])
    return not peer["namespace"] and fits(described["podSelector"], peer["labels"])


def test_whoever_talks_to_another_may_and_nobody_else() -> None:
    ours = {name: {"labels": {"app": name}, "namespace": {}} for name in (*SERVICES, *STORES, "stranger")}
    ours["orders"] = {"labels": YOURS, "namespace": {}}
    prometheus = {"labels": {"app": "prometheus"}, "namespace": {"gatehouse.org/monitoring": "true"}}
    senders: dict[str, Peer] = {**ours, "prometheus": prometheus, "outside": None}
    receivers: dict[str, Peer] = {**ours, "outside": None}
    ports = {port for _, _, port in TALK} | {22, 80, 443, 8080}
    reached = {
        (sender, receiver, port)
        for sender, receiver, port in product(senders, receivers, ports)
        if sender != receiver
        and (sender in ours or receiver in ours)
        and (sender not in ours or admitted(ours[sender], "Egress", receivers[receiver], port))
        and (receiver not in ours or admitted(ours[receiver], "Ingress", senders[sender], port))
    }
    assert reached == TALK


def test_every_address_among_the_settings_is_one_that_some_service_may_reach() -> None:
    for name, value in settings().items():
        if name.endswith("_URL") and name != "PUBLIC_URL":
            where = urlsplit(value)
            assert any(talk[1:] == (where.hostname, where.port) for talk in TALK), name


def rendered(folder: Path) -> list[Any]:
    """What `kubectl apply -k` sends."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl renders it, and there is none here")
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_what_the_page_has_people_write_changes_what_is_applied(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "gatehouse/deploy/k8s")
    mine, more = re.findall(r"^ *```yaml\n(.*?)```", (FOLDER / "README.md").read_text("utf-8"), re.M | re.S)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/kustomization.yaml").write_text(mine + textwrap.dedent(more))
    made = rendered(tmp_path / "mine")
    (config,) = (each for each in made if each["kind"] == "ConfigMap")
    said = yaml.safe_load(mine)["configMapGenerator"][0]["literals"]
    assert config["data"] == settings() | dict(line.split("=", 1) for line in said)
    deployments = {each["metadata"]["name"]: each["spec"] for each in made if each["kind"] == "Deployment"}
    assert deployments["user-service"]["replicas"] == 4
    gateway = deployments["gateway"]["template"]["spec"]
    assert gateway["containers"][0]["image"] == "registry.internal/gatehouse-gateway:0.1.0"
    assert gateway["containers"][0]["envFrom"][0]["configMapRef"]["name"] == config["metadata"]["name"]
    assert "routes-orders" in [volume["name"] for volume in gateway["volumes"]]
    assert "/etc/gateway/routes.d/orders" in [
        each["mountPath"] for each in gateway["containers"][0]["volumeMounts"]
    ]


def test_kustomize_makes_what_is_applied_of_them() -> None:
    made = rendered(FOLDER)
    assert made[0]["kind"] == "Namespace"
    (config,) = (each for each in made if each["kind"] == "ConfigMap")
    assert config["data"] == settings()
    assert re.fullmatch(r"settings-[a-z0-9]{10}", config["metadata"]["name"])
    for each in made:
        if each["kind"] == "Deployment":
            spec = each["spec"]["template"]["spec"]
            for container in (*spec.get("initContainers", []), *spec["containers"]):
                assert container["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}]
                assert re.fullmatch(
                    r"registry\.example\.com/gatehouse-[a-z-]+:\d+\.\d+\.\d+", container["image"]
                )
