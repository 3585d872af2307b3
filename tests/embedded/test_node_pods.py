"""Pods on the real node: start, status, environment, probes, restarts, end. Each clause has its failing twin."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from labkit.embedded.apiclient import CONFIGMAPS, NODES, PODS, SECRETS
from labkit.embedded.node import Node
from labkit.embedded.node.sandbox import Sandbox
from labkit.errors import MachineError
from tests.embedded.node_world import NodeWorld, is_ready, node_world, shell, state

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world() -> AsyncIterator[NodeWorld]:
    async with node_world() as running:
        yield running


async def test_a_pod_runs_and_is_ready(world: NodeWorld):
    created = await world.create("plain", shell("main", "sleep 100"))
    pod = await world.until("plain", is_ready)
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["podIP"].startswith(f"127.{world.block}.")
    assert pod["status"]["hostIP"] == f"127.{world.block}.0.1"
    assert state(pod)["running"]["startedAt"] >= created["metadata"]["creationTimestamp"]
    assert len(world.processes(pod["metadata"]["uid"])) >= 1
    await world.delete("plain")
    assert world.processes(pod["metadata"]["uid"]) == []


async def test_an_unknown_image_waits_and_says_which_exist(world: NodeWorld):
    await world.create("no-image", {"name": "main", "image": "nginx:1.27"})
    pod = await world.until("no-image", lambda p: state(p)["waiting"]["reason"] in ("ErrImagePull", "ImagePullBackOff"))
    assert pod["status"]["phase"] == "Pending"
    assert "curlimages/curl" in state(pod)["waiting"]["message"]
    [event] = await world.events("no-image", "Failed")
    assert "nginx:1.27" in event["message"] and "images.yaml" in event["message"]
    await world.delete("no-image")


async def test_a_reference_with_a_shell_variable_is_no_image_name(world: NodeWorld):
    await world.create("bad-name", {"name": "main", "image": "$ACR_NAME.azurecr.io/chatbackend:latest"})
    pod = await world.until("bad-name", lambda p: state(p)["waiting"]["reason"] == "InvalidImageName")
    assert "shell variable" in state(pod)["waiting"]["message"]
    await world.delete("bad-name")


async def test_environment_comes_from_every_source(world: NodeWorld):
    await world.configmap("settings", COLOR="green", SIZE="small")
    env = [
        {"name": "SIZE", "value": "large"},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "BOTH", "value": "$(NAME)-$(COLOR) $(MISSING)"},
    ]
    await world.create(
        "env",
        shell("main", 'echo "$BOTH $SIZE $IP"', env=env, envFrom=[{"configMapRef": {"name": "settings"}}]),
        restartPolicy="Never",
    )
    pod = await world.until("env", lambda p: p["status"]["phase"] == "Succeeded")
    _, text = await world.logs("env", "main")
    assert text == f"env-green $(MISSING) large {pod['status']['podIP']}\n"


async def test_a_missing_configmap_is_said_and_waited_for(world: NodeWorld):
    await world.create("late", shell("main", "sleep 100", envFrom=[{"configMapRef": {"name": "later"}}]))
    pod = await world.until("late", lambda p: state(p)["waiting"]["reason"] == "CreateContainerConfigError")
    assert state(pod)["waiting"]["message"] == 'configmap "later" not found'
    await world.configmap("later", A="1")
    await world.until("late", is_ready)
    await world.delete("late")


async def test_exec_and_probes_see_the_environment_of_the_start(world: NodeWorld):
    await world.configmap("early", COLOR="red")
    probe = {"exec": {"command": ["sh", "-c", "test $COLOR = red"]}, "periodSeconds": 1, "failureThreshold": 1}
    await world.create(
        "early", shell("main", "sleep 100", envFrom=[{"configMapRef": {"name": "early"}}], readinessProbe=probe)
    )
    await world.until("early", is_ready)
    await world.api.patch(CONFIGMAPS, "early", {"data": {"COLOR": "blue"}}, namespace="default")
    assert (await world.exec("early", "main", "sh", "-c", "echo $COLOR")).stdout == "red\n"
    await world.api.delete(CONFIGMAPS, "early", "default")
    await asyncio.sleep(1.2)
    assert is_ready(await world.pod("early"))
    await world.delete("early")


async def test_what_goes_wrong_on_our_side_is_said_and_tried_again(world: NodeWorld, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("labkit.embedded.node.pod.LAST_RETRY", 0.1)
    monkeypatch.setattr("labkit.embedded.node.container.LAST_RETRY", 0.1)
    failures = [OSError(28, "No space left on device")] * 2

    def full(sandbox: Sandbox) -> None:
        if sandbox.record.name == "unlucky" and failures:
            raise failures.pop()
        save(sandbox)

    save = Sandbox.save
    monkeypatch.setattr(Sandbox, "save", full)
    await world.create("unlucky", shell("main", "sleep 100"))
    pod = await world.until("unlucky", is_ready)
    [event] = await world.events("unlucky", "FailedCreatePodSandBox")
    assert "No space left on device" in event["message"]
    # At its end the record cannot be written either, and it is started again nevertheless.
    failures.append(OSError(28, "No space left on device"))
    [pid] = [p for p in world.processes(pod["metadata"]["uid"]) if os.getsid(p) == p]
    os.kill(pid, 9)
    await world.until("unlucky", lambda p: p["status"]["containerStatuses"][0]["restartCount"] == 1 and is_ready(p))
    assert not failures
    assert len([p for p in world.processes(pod["metadata"]["uid"]) if os.getsid(p) == p]) == 1
    await world.delete("unlucky")


async def test_init_containers_run_in_order_before_the_others(world: NodeWorld):
    volume = {"volumeMounts": [{"name": "shared", "mountPath": "/data"}]}
    write = 'echo {} >> "$POD_ROOT/data/order"'
    await world.create(
        "ordered",
        shell("main", 'cat "$POD_ROOT/data/order"', **volume),
        init=(shell("one", f"sleep 0.1; {write.format(1)}", **volume), shell("two", write.format(2), **volume)),
        restartPolicy="Never",
        volumes=[{"name": "shared", "emptyDir": {}}],
    )
    pod = await world.until("ordered", lambda p: p["status"]["phase"] == "Succeeded")
    assert [s["ready"] for s in pod["status"]["initContainerStatuses"]] == [True, True]
    assert await world.logs("ordered", "main") == (200, "1\n2\n")


async def test_a_failing_init_container_keeps_the_others_from_starting(world: NodeWorld):
    await world.create("stuck", shell("main", "sleep 100"), init=(shell("bad", "exit 7"),))
    pod = await world.until(
        "stuck", lambda p: state(p, kind="initContainerStatuses")["waiting"]["reason"] == "CrashLoopBackOff"
    )
    assert pod["status"]["phase"] == "Pending"
    assert pod["status"]["initContainerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 7
    assert state(pod)["waiting"]["reason"] == "PodInitializing"
    await world.delete("stuck")


async def test_a_native_sidecar_runs_on_beside_the_containers(world: NodeWorld):
    sidecar = shell("proxy", "sleep 100", restartPolicy="Always")
    await world.create("native", shell("main", "sleep 100"), init=(sidecar,))
    pod = await world.until("native", is_ready)
    assert "running" in state(pod, kind="initContainerStatuses")
    await world.delete("native")


@pytest.mark.parametrize(
    ("policy", "script", "phase", "code"),
    [
        pytest.param("Never", "exit 0", "Succeeded", 0, id="zero-is-success"),
        pytest.param("Never", "exit 5", "Failed", 5, id="five-is-failure"),
        pytest.param("OnFailure", "exit 0", "Succeeded", 0, id="success-is-not-repeated"),
    ],
)
async def test_the_exit_code_decides_the_phase(world: NodeWorld, policy: str, script: str, phase: str, code: int):
    name = f"exit-{policy.lower()}-{code}"
    await world.create(name, shell("main", script), restartPolicy=policy)
    pod = await world.until(name, lambda p: p["status"]["phase"] == phase)
    assert state(pod)["terminated"]["exitCode"] == code
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


async def test_a_container_that_ends_is_started_again_and_then_backs_off(world: NodeWorld):
    await world.create("crash", shell("main", "echo once; exit 3"))
    pod = await world.until("crash", lambda p: state(p)["waiting"]["reason"] == "CrashLoopBackOff")
    [status] = pod["status"]["containerStatuses"]
    assert status["restartCount"] >= 1
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert await world.events("crash", "BackOff")
    assert (await world.logs("crash", "main", previous="true")) == (200, "once\n")
    await world.delete("crash")


async def test_a_program_that_does_not_exist_is_a_start_error(world: NodeWorld):
    await world.create("nothing", {"name": "main", "image": "busybox", "command": ["no-such-program"]})
    pod = await world.until("nothing", lambda p: p["status"]["containerStatuses"][0]["lastState"]["terminated"])
    ended = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert ended["reason"] == "StartError"
    assert 'exec: "no-such-program": executable file not found in $PATH' in ended["message"]
    await world.delete("nothing")


@pytest.mark.parametrize(
    ("command", "why"),
    [
        # The machine has a program of that name; what was asked for is another file.
        pytest.param(["/etc/passwd"], 'exec: "/etc/passwd": permission denied', id="not-executable"),
        pytest.param(["/no/such/sleep"], 'exec: "/no/such/sleep": stat /no/such/sleep: no such file', id="elsewhere"),
        pytest.param(["echo", "a\0b"], "invalid argument: embedded null byte", id="zero-byte"),
    ],
)
async def test_what_cannot_be_executed_is_a_start_error(world: NodeWorld, command: list[str], why: str):
    await world.create("unfit", {"name": "main", "image": "busybox", "command": command})
    pod = await world.until("unfit", lambda p: p["status"]["containerStatuses"][0]["lastState"]["terminated"])
    ended = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert ended["reason"] == "StartError" and why in ended["message"]
    await world.delete("unfit")


async def test_an_environment_may_be_large_but_not_larger_than_the_kernel_takes(world: NodeWorld):
    for name, size in (("large", 100_000), ("too-large", 200_000)):
        await world.create(name, shell("main", "sleep 100", env=[{"name": "BIG", "value": "x" * size}]))
    await world.until("large", is_ready)
    pod = await world.until("too-large", lambda p: p["status"]["containerStatuses"][0]["lastState"]["terminated"])
    message = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["message"]
    assert "argument list too long" in message
    await world.delete("large")
    await world.delete("too-large")


async def test_a_pod_is_ready_when_its_probe_says_so(world: NodeWorld):
    container = {
        "name": "web",
        "image": "python",
        "args": ["-m", "http.server", "80"],
        "ports": [{"name": "http", "containerPort": 80}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
    }
    await world.create("web", container)
    await world.until("web", is_ready)
    await world.delete("web")


async def test_a_failing_readiness_probe_keeps_a_pod_unready_and_says_why(world: NodeWorld):
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    await world.create("deaf", shell("main", "sleep 100", readinessProbe=probe))
    await world.until("deaf", lambda p: "running" in state(p))
    [event, *_] = await world.events("deaf", "Unhealthy")
    assert event["message"].startswith("Readiness probe failed:")
    assert not is_ready(await world.pod("deaf"))
    await world.delete("deaf")


async def test_a_failing_liveness_probe_restarts_the_container(world: NodeWorld):
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    await world.create("ill", shell("main", "sleep 100", livenessProbe=probe), terminationGracePeriodSeconds=1)
    pod = await world.until("ill", lambda p: p["status"]["containerStatuses"][0]["restartCount"] > 0)
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] != 0
    await world.delete("ill")


async def test_a_port_in_use_is_the_programs_own_failure(world: NodeWorld):
    serve = {"image": "python", "args": ["-m", "http.server", "8080"]}
    probe = {"readinessProbe": {"httpGet": {"path": "/", "port": 8080}}}
    await world.create("twice", {"name": "one", **serve, **probe}, {"name": "two", **serve})
    pod = await world.until("twice", lambda p: any(s["restartCount"] for s in p["status"]["containerStatuses"]))
    loser = next(s["name"] for s in pod["status"]["containerStatuses"] if s["restartCount"] > 0)
    texts = [await world.logs("twice", loser), await world.logs("twice", loser, previous="true")]
    assert any("Address already in use" in text for _, text in texts)
    await world.delete("twice")


async def test_deletion_asks_first_and_kills_after_the_grace_period(world: NodeWorld):
    await world.create("polite", shell("main", "trap 'exit 0' TERM; sleep 100 & wait"))
    await world.create(
        "stubborn", shell("main", "trap '' TERM; while :; do sleep 1; done"), terminationGracePeriodSeconds=1
    )
    uids = [(await world.until(name, is_ready))["metadata"]["uid"] for name in ("polite", "stubborn")]
    await asyncio.sleep(0.1)  # the shells must have set their traps
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await world.delete("polite")
    assert loop.time() - begun < 0.9
    begun = loop.time()
    await world.delete("stubborn")
    assert 0.9 < loop.time() - begun < 4
    assert [world.processes(uid) for uid in uids] == [[], []]


async def test_grandchildren_end_with_their_container(world: NodeWorld):
    await world.create("family", shell("main", "sleep 1000 & (setsid sleep 1000 &) ; sleep 1000"))
    uid = (await world.until("family", is_ready))["metadata"]["uid"]
    await asyncio.sleep(0.1)
    assert len(world.processes(uid)) >= 3
    await world.delete("family")
    assert world.processes(uid) == []


async def test_a_daemon_does_not_outlive_the_container_that_left_it_behind(world: NodeWorld):
    # It would keep its port, and the container could never be started again.
    serve = f"exec {sys.executable} -m http.server 8090"
    script = f"(setsid sh -c '{serve}' &) ; until curl -sf $IP:8090 > /dev/null; do sleep 0.05; done; exit 9"
    env = [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    await world.create("daemon", shell("main", script, env=env), shell("other", "sleep 1000"))
    pod = await world.until("daemon", lambda p: p["status"]["containerStatuses"][0]["restartCount"] > 0)
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 9
    pod = await world.until("daemon", lambda p: state(p)["waiting"]["reason"] == "CrashLoopBackOff")
    assert "running" in state(pod, 1)
    uid = pod["metadata"]["uid"]
    assert {os.getsid(pid) for pid in world.processes(uid)} == {pid_of_other(world, uid)}
    await world.delete("daemon")


def pid_of_other(world: NodeWorld, uid: str) -> int:
    record = json.loads((world.paths.node_dir / "pods" / uid / "pod.json").read_text())
    return int(record["containers"]["other"]["process"]["pid"])


async def test_keys_of_a_secret_are_files_whatever_their_names(world: NodeWorld):
    names = ["a.b", ".hidden", "-dash", ".a.b.new", "k" * 253]
    data = {name: base64.b64encode(name.encode()).decode() for name in names}
    metadata = {"name": "odd", "namespace": "default"}
    await world.api.create(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
    await world.create(
        "odd",
        shell("main", 'cd "$POD_ROOT/s" && ls -A', volumeMounts=[{"name": "s", "mountPath": "/s"}]),
        volumes=[{"name": "s", "secret": {"secretName": "odd"}}],
        restartPolicy="Never",
    )
    await world.until("odd", lambda p: p["status"]["phase"] == "Succeeded")
    _, text = await world.logs("odd", "main")
    assert sorted(text.split()) == sorted(names)


async def test_a_pod_whose_configmap_is_missing_waits_for_it(world: NodeWorld):
    await world.create(
        "patient",
        shell("main", 'cat "$POD_ROOT/c/k"; sleep 100', volumeMounts=[{"name": "c", "mountPath": "/c"}]),
        volumes=[{"name": "c", "configMap": {"name": "to-come"}}],
    )
    [event, *_] = await world.events("patient", "FailedMount")
    assert 'configmap "to-come" not found' in event["message"]
    assert state(await world.pod("patient"))["waiting"]["reason"] == "ContainerCreating"
    await world.configmap("to-come", k="v")
    await world.until("patient", is_ready)
    await world.delete("patient")


async def test_a_name_can_be_used_again_at_once(world: NodeWorld):
    for pause in (0, 0.005, 0.02, 0.05, 0.2):  # deleted in every phase of its start
        first = await world.create("again", shell("main", "trap '' TERM; while :; do sleep 1; done"))
        await asyncio.sleep(pause)
        await world.api.delete(PODS, "again", "default", {"gracePeriodSeconds": 0})
        await world.until_gone("again")
        await world.create("again", shell("main", "sleep 1000"), terminationGracePeriodSeconds=1)
        await world.until("again", is_ready)
        assert (await world.exec("again", "main", "echo", "hello")).stdout == "hello\n"
        await world.delete("again")
        assert world.processes(first["metadata"]["uid"]) == []


async def test_a_mounted_configmap_is_a_directory_of_files(world: NodeWorld):
    await world.configmap("files", **{"app.conf": "a=1\n"})
    mounts = {"volumeMounts": [{"name": "conf", "mountPath": "/etc/app"}]}
    await world.create(
        "mounted",
        {"name": "main", "image": "busybox", "command": ["cat", "/etc/app/app.conf"], **mounts},
        volumes=[{"name": "conf", "configMap": {"name": "files"}}],
        restartPolicy="Never",
    )
    await world.until("mounted", lambda p: p["status"]["phase"] == "Succeeded")
    assert await world.logs("mounted", "main") == (200, "a=1\n")


async def test_a_volume_of_a_missing_secret_is_said_in_an_event(world: NodeWorld):
    volumes = [{"name": "s", "secret": {"secretName": "absent"}}]
    await world.create("unmounted", shell("main", "sleep 100"), volumes=volumes)
    [event, *_] = await world.events("unmounted", "FailedMount")
    assert 'secret "absent" not found' in event["message"]
    assert (await world.pod("unmounted"))["status"]["phase"] == "Pending"
    await world.delete("unmounted")


async def test_a_lifecycle_hook_runs_after_the_start_and_before_the_end(world: NodeWorld):
    marker = world.paths.state_dir / "hooks"
    hooks = {
        "postStart": {"exec": {"command": ["sh", "-c", f"echo begun >> {marker}"]}},
        "preStop": {"exec": {"command": ["sh", "-c", f"echo ending >> {marker}"]}},
    }
    await world.create("hooked", shell("main", "sleep 100", lifecycle=hooks))
    await world.until("hooked", is_ready)
    await world.delete("hooked")
    assert marker.read_text() == "begun\nending\n"


async def test_the_proxy_of_a_pod_ends_after_its_application(world: NodeWorld):
    marker = world.paths.state_dir / "last"
    last_words = f"trap 'echo $0 >> {marker}; exit' TERM; while :; do sleep 0.05; done"
    pause = {"preStop": {"exec": {"command": ["sh", "-c", f"sleep 0.3; echo served >> {marker}"]}}}
    await world.create("meshed", shell("main", last_words, lifecycle=pause), shell("istio-proxy", last_words))
    await world.until("meshed", is_ready)
    await world.delete("meshed")
    proxy_alone = marker.read_text().splitlines()
    assert proxy_alone[0] == "served" and len(proxy_alone) == 3
    # The twin: another container does not wait.
    marker.unlink()
    await world.create("plain", shell("main", last_words, lifecycle=pause), shell("helper", last_words))
    await world.until("plain", is_ready)
    await world.delete("plain")
    assert marker.read_text().splitlines().index("served") > 0


async def test_a_mounted_configmap_follows_its_object(world: NodeWorld, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("labkit.embedded.node.pod.REFRESH", 0.05)
    await world.configmap("moving", colour="red")
    mounts = {"volumeMounts": [{"name": "conf", "mountPath": "/etc/app"}]}
    script = 'until grep -q blue "$POD_ROOT/etc/app/colour"; do sleep 0.05; done'
    await world.create(
        "follower",
        shell("main", script, **mounts),
        volumes=[{"name": "conf", "configMap": {"name": "moving"}}],
        restartPolicy="Never",
    )
    pod = await world.until("follower", lambda p: "running" in state(p))
    assert pod["status"]["phase"] == "Running"
    await world.api.patch(CONFIGMAPS, "moving", {"data": {"colour": "blue"}}, namespace="default")
    await world.until("follower", lambda p: p["status"]["phase"] == "Succeeded")


async def test_the_node_shows_itself(world: NodeWorld):
    node = await world.api.get(NODES, "labkit-node")
    assert {"type": "InternalIP", "address": f"127.{world.block}.0.1"} in node["status"]["addresses"]
    assert node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] == 10250
    assert [c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready"] == ["True"]


async def test_a_taken_kubelet_port_is_one_clear_error(world: NodeWorld):
    second = Node(paths=world.paths, block=world.block, kubeconfig=world.paths.kubeconfig)
    with pytest.raises(MachineError, match=r"The kubelet cannot listen on .*:10250"):
        await second.start()
    assert is_ready(await world.until("follower", lambda p: True)) is False  # the first one goes on as before
    async with world.kubelet() as kubelet, kubelet.get("/healthz") as response:
        assert response.status == 200
