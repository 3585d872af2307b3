"""Lab: what a notebook holds. It ties the rooms together and decides nothing.

    import labkit
    lab = labkit.open("embedded")            # or "embedded:<name>", or a kubeconfig context

A *workload* is written "namespace/name" (a Deployment, or a pod); "name" alone is looked up in `default` first, then
in all namespaces, and must be unique there. Everything that changes the cluster returns a `Done`, which shows what
happened and the kubectl line that does the same. Errors are `labkit.LabError`: three lines, never a traceback.

The course: lab.world lab.leave lab.solve lab.reset lab.check lab.predict lab.compare lab.quiz lab.answer lab.drill
lab.progress: see `labkit.lab.course.Course`.

Change
    lab.apply(source, namespace=None)        path, directory, YAML text, dict or list of them; all or nothing
    lab.attempt(source, namespace=None)      as apply, but a refusal is shown and never raised; a source that still
                                             holds the blank `...` is not sent: .pending (for exercises)
    lab.delete(source, namespace=None)       the same sources, or "peerauthentication/name"
    lab.create_namespace(name, **labels)     also labels={"istio.io/rev": "default"}
    lab.label_namespace(name, {"istio.io/rev": "asm-1-24"})       a value of None removes the label
    lab.restart("azureopenai/chatbackend")   like kubectl rollout restart; waits until it is done
    lab.set_mtls_mode("STRICT", "azureopenai")       of a namespace; of the mesh without one; workload=..., port=...
    lab.set_injection(True, "azureopenai", workload=None)    sidecars for new pods, and new pods (restart_pods=True)
    lab.set_client_tls("DISABLE", "azureopenai/chatbackend-service", subset="")     what clients use; "" is automatic
    lab.reset_knobs()                        put back what these three have changed
    lab.start_traffic(client, url, rps=2, concurrency=1, data="")    requests that go on: .stop_traffic() .traffic()
    lab.install_mesh(namespace="istio-system", revision="default")      waits for istiod
    lab.configure_mesh("operator.yaml", set=["meshConfig.enableAutoMtls=false"])      settings; lab.mesh_config()
    lab.install_gateway()                    an ingress gateway beside istiod; or in a namespace, under a name
    lab.platform("aks", ...)                 the commands of a platform's tools, filled in; run=3 runs the third
    lab.annotate("service/web", {...}, ns)   kubectl annotate
    lab.uninstall_mesh()

Look
    lab.from_environment("AZURE_API_KEY")    a secret from the environment ("" when unset); never printed
    lab.show(path_or_yaml)                   the manifest in full view, highlighted
    lab.pods(namespace=None)                 table as kubectl's: NAME READY STATUS RESTARTS AGE; None = all namespaces
    lab.deployments(namespace=None)          NAME READY UP-TO-DATE AVAILABLE AGE
    lab.services(namespace=None)             NAME TYPE CLUSTER-IP PORT(S) AGE
    lab.namespaces()                         NAME STATUS LABELS
    lab.events(namespace=None)               the newest events
    lab.describe_pod(workload)               containers, init containers, labels, annotations of one pod
    lab.logs(workload, container=None, tail=20)
    lab.mesh_status()                        MeshStatus: installed, istiod, revision, kinds, webhook
    lab.sidecars(namespace=None)             who is injected, and with which revision
    lab.mtls_mode(namespace=None, workload=None)      "UNSET", "DISABLE", "PERMISSIVE", "STRICT"
    lab.effective_mtls(namespace)            per workload: mode, per port, who decided
    lab.certificate_of(workload)             facts of the certificate that its proxy presents: SPIFFE ID, issuer, times
    lab.map(*namespaces, special=False, counted=False)    the encryption map: picture, text twin, .svg .png .dot .table
                                             .save(path)
                                             .layer("declared"|"observed") .conceal() .score({edge: "mTLS"})
    lab.proxy_status()                       which configuration each proxy runs, and what it refused
    lab.compare_proxy("shop/server")         what istiod wants a proxy to run against what it runs
    lab.explain(client, server, port)        what the policies declare of a call: both sides, each object, each rule
    lab.explain_all()                        the same for all pairs, as a table (options: namespaces, only="plaintext")
    lab.preview(source)                      what a change would do to every edge, before it is applied
    lab.verify(forbid="plaintext")           what is not as wished
    lab.disagreements(seconds=None)          calls that were seen otherwise than declared, and the likeliest cause
    lab.migrate()                            the way of the whole mesh to STRICT, every step tried beforehand
    lab.proxy_config("clusters", workload)   listeners, clusters, routes, endpoints, secrets, bootstrap or all of a
                                             proxy; filters port= fqdn= direction= ...; .resources .json() .yaml()
    lab.proxy_log(workload, "rbac:debug")    shows or sets the levels of a proxy's loggers
    lab.describe(workload)                   a pod, or "svc/shop/web", as istioctl x describe has it: effective mode,
                                             policies, rules, routes, gateways, warnings
    lab.analyze()                            what does not fit together, with the codes of istioctl and Kiali
    lab.certificates()                       how long every certificate of the mesh still lives: .warnings .soonest
    lab.certificate(workload, port)          what is presented at that port right now; lab.openssl(...) for its text
    lab.mint_ca("example.com")               an authority of your own: .server(host) .client(name); lab.tls_secret(...)
    lab.visit(url, trust=ca, client=paper)   this machine's curl at the ingress gateway, with certificates
    lab.metrics(*namespaces)                 what all proxies counted: .requests .connections .by("response_code")
                                             .success() .latency() .plaintext(); later - earlier gives rates
    lab.rates(seconds=5)                     the same within the next seconds
    lab.refusals(*namespaces)                connections that proxies did not take, and who says so
    lab.plaintext_callers(*namespaces)       who called in plaintext, by the addresses in access logs
    lab.install_prometheus()                 a Prometheus beside istiod, where the program is installed
    lab.prometheus()                         the cluster's: .query(promql) .range(promql, minutes=10) .targets()
    lab.dashboards.mesh()                    pictures: .mesh() .service(name) .workload(name) .control_plane() .wasm()
    with lab.capture(server) as wire: ...    what crosses to a workload's ports meanwhile; seconds= port= inside=;
                                             .packets .connections .requests .encrypted .save("x.pcapng")
    lab.compare_captures(before, after)      two of them side by side; lab.read_capture("x.pcapng")

Try
    lab.probe(client, url, data=None, headers=None, method=None)        runs curl in the client -> Observation
    lab.port_forward("shop/web", 80, "/")    one request through kubectl port-forward, past the sidecar; data=
                                             .http_status .exit_code .error .body .headers .json() .command
    lab.predict(client, url)                 what the policies say will happen -> Verdict
    lab.token_issuer("lab-issuer")           signs tokens: .token("alice").header .forged("alice").header .jwks
    lab.module_url(path)                     what a WasmPlugin on this cluster writes as the url of a module
    lab.gateway_url(scheme, path)            where the ingress gateway is reached from this machine
    lab.address_of(workload)                 the address of its pod, to call it past its Service
    lab.wait_until_ready(what)               "azureopenai" (a namespace) or "azureopenai/chatbackend"
    lab.live_map(*namespaces)                the map, redrawn while the mesh changes: .replay() .predict() .select()
    lab.controls(*namespaces)                knobs for modes, sidecars, clients' TLS, traffic; they show what is true
    lab.console(*namespaces)                 both on one screen, as notebooks/console.ipynb shows them
    lab.mode_panel(namespace)                buttons UNSET DISABLE PERMISSIVE STRICT (twin: lab.set_mtls_mode)
    lab.predict_panel(client, url)           commit to a prediction before you see it (twin: lab.predict)

Checks: `lab.check()` lists them with their evidence; each lesson has its module in `labkit.checks`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from labkit.cluster import Cluster, Obj, open_cluster
from labkit.cluster.cluster import WAIT_SECONDS, Change
from labkit.cluster.kinds import DEPLOYMENT, DESTINATION_RULE, EVENT, NAMESPACE, PEER_AUTHENTICATION, POD, SERVICE, Kind
from labkit.cluster.manifests import Source, find_path, load_documents, looks_like_path, manifest_files, shown_path
from labkit.errors import InputError, LabError
from labkit.installers.fields import nearest_kind
from labkit.lab.analysis import Analyses
from labkit.lab.certificates import CertificateQuestions
from labkit.lab.course import STEP, Course
from labkit.lab.declared import DeclaredQuestions
from labkit.lab.disagreements import Disagreements
from labkit.lab.forwarding import Forwarding
from labkit.lab.installing import Installing
from labkit.lab.knobs import MODES
from labkit.lab.live import Live
from labkit.lab.minting import Minting
from labkit.lab.observed import Observed
from labkit.lab.platforms import Platforms
from labkit.lab.tokens import Tokens
from labkit.lab.wire import OnTheWire
from labkit.lab.words import ProxyWords
from labkit.observe import declared, mesh, objects, proxies, proxy, settling, traffic, waiting
from labkit.observe.accepting import would_refuse
from labkit.observe.declared_mesh import read_declared_mesh
from labkit.outcomes import Observation, Probe, Verdict
from labkit.policy.declared import DeclaredMesh
from labkit.policy.declared.judging import Asked
from labkit.views.commands import has_blank, kubectl_for, label_pairs
from labkit.views.results import Attempt, Done, Manifest, PodDescription
from labkit.worlds import Journal, Undo, restart, wait_until_gone

if TYPE_CHECKING:
    from labkit.checks import CheckResult
    from labkit.live.mesh import LiveMesh
    from labkit.observe.mesh import MeshStatus
    from labkit.pki import CertificateFacts
    from labkit.views.encryption_map import EncryptionMap
    from labkit.views.tables import Table


def open(
    cluster: str = "embedded",
    *,
    context: str | None = None,
    kubeconfig: str | Path | None = None,
    narrate: Callable[[str], None] = print,
) -> Lab:
    """Open a lab on the embedded cluster (started if need be), or on a context of your kubeconfig."""
    return Lab(open_cluster(cluster, context=context, kubeconfig=kubeconfig, narrate=narrate))


class Secret(str):
    """A text that does not show itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'(hidden)'" if self else "''"


# Kinds that change what a server's proxy does with a request.
_AT_THE_SERVER = frozenset(
    {"AuthorizationPolicy", "RequestAuthentication", "Sidecar", "EnvoyFilter", "WasmPlugin", "Telemetry"}
)


class Lab(
    Course,
    ProxyWords,
    Observed,
    DeclaredQuestions,
    Disagreements,
    OnTheWire,
    Forwarding,
    Analyses,
    Live,
    CertificateQuestions,
    Minting,
    Tokens,
    Installing,
    Platforms,
):
    """One cluster, and the verbs of a lesson; see the module's docstring."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.results: list[CheckResult] = []
        self._journal = Journal(cluster)
        self._turned = Journal(cluster)
        self._followed: LiveMesh | None = None
        self._seen: list[Observation] = []
        self.tried: list[Observation] = []
        self._readings: traffic.Readings = {}
        self._lost: list[str] = []
        self.mesh_names = {"namespace": "istio-system", "revision": "default"}
        self._commitments: dict[str, str] = {}
        self._drill, self._hints = "", 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. The cluster goes on, and so does what was applied."""
        self._close_live()
        self.cluster.close()

    def declared_mesh(self) -> DeclaredMesh:
        """All that the cluster's objects say, for questions of your own."""
        return read_declared_mesh(self.cluster)

    def not_taken(self, objects: Sequence[Mapping[str, Any]]) -> list[str]:
        """What the cluster would refuse of some objects: kinds that it does not know, namespaces that are not there."""
        return would_refuse(self.cluster, objects, nearest_kind)

    # -- change -------------------------------------------------------------------------------------------------

    def apply(self, source: Source, namespace: str | None = None) -> Done:
        """Apply a path, a directory, YAML text, an object or a list of them: all documents, or none."""
        started = time.monotonic()
        changes = self.put(source, namespace)
        self._settle(changes)
        return self._done(changes, kubectl_for(source, "apply", namespace), started)

    def attempt(self, source: Source, namespace: str | None = None) -> Attempt:
        """Apply, but show a refusal instead of raising it. A source with a blank `...` is not sent."""
        if has_blank(source):
            return Attempt(pending=True)
        try:
            return Attempt(done=self.apply(source, namespace))
        except LabError as error:
            return Attempt(error=error)

    def delete(self, source: Source, namespace: str | None = None) -> Done:
        """Delete what a manifest names, or one object: `lab.delete("peerauthentication/default", "foo")`."""
        started = time.monotonic()
        if isinstance(source, str) and re.fullmatch(r"[^/\s]+/[^/\s]+", source) and not _is_file(source):
            kind, name = source.split("/")
            found = self.cluster.kind(kind)
            where = (namespace or "default") if found.namespaced else None
            changes = [self.cluster.delete(found, name, where)]
            line = f"kubectl delete {found.resource} {name}{f' -n {where}' if where else ''}"
        else:
            changes = self.cluster.delete_documents(source, namespace=namespace)
            line = kubectl_for(source, "delete", namespace)
        self._after(changes)
        self._settle(changes)
        return self._done(changes, line, started)

    def create_namespace(self, name: str, labels: Mapping[str, str] | None = None, **more: str) -> Done:
        """Make a namespace. One that exists only gets the labels."""
        started = time.monotonic()
        wanted = {**(labels or {}), **more}
        change = self.cluster.create_namespace(name, wanted)
        if change.action == "created":
            self._after([change])
        else:
            self._journal.record_labels(change, wanted)
        lines = [f"kubectl create namespace {name}"]
        if wanted:
            lines.append(f"kubectl label namespace {name} {label_pairs(wanted)}")
        return self._done([change], lines, started)

    def label_namespace(self, name: str, labels: Mapping[str, str | None] | None = None, **more: str | None) -> Done:
        """Set labels of a namespace; a value of None removes the label. Running pods are not touched by it."""
        started = time.monotonic()
        wanted = {**(labels or {}), **more}
        if not wanted:
            raise InputError("No label was given.", next_step='Write {"istio.io/rev": "default"}, for example.')
        change = self._label(name, wanted)
        return self._done([change], f"kubectl label namespace {name} {label_pairs(wanted)} --overwrite", started)

    def restart(self, deployment: str, namespace: str | None = None, *, limit: float = WAIT_SECONDS) -> Done:
        """Make new pods in place of a Deployment's old ones, and wait until they have taken over."""
        started = time.monotonic()
        reference = objects.find_workload(self.cluster, deployment, namespace)
        if reference.kind != "Deployment":
            raise InputError(f"{reference} is not a Deployment.", next_step="Restart the Deployment that owns the pod.")
        restart(self.cluster, reference.name, reference.namespace)
        self._seen.clear()
        pods = waiting.wait_until_ready(self.cluster, str(reference), limit=limit)
        lines = [f"{objects.name_of(pod)} {objects.ready_text(pod)}" for pod in pods]
        line = f"kubectl rollout restart deployment/{reference.name} -n {reference.namespace}"
        return Done(f"Restarted {reference}", tuple(lines), (line,), (), time.monotonic() - started)

    def install_mesh(self, namespace: str = "istio-system", revision: str = "default") -> Done:
        """Install the mesh and wait until its control plane is ready."""
        started = time.monotonic()
        status = self.mesh_status()
        if status.ready and (status.namespace, status.revision) == (namespace, revision):
            return Done(f"The mesh is already installed in {namespace}, revision {revision}")
        self.put_mesh(namespace, revision)
        status = self.mesh_status()
        lines = [
            f"control plane: {status.istiod} in {status.namespace}, revision {status.revision}",
            f"new kinds: {len(status.kinds)}, PeerAuthentication among them",
            f"injection webhook: {', '.join(status.webhooks)}",
        ]
        flags = "" if namespace == "istio-system" else f" --set values.global.istioNamespace={namespace}"
        flags += "" if revision == "default" else f" --revision {revision}"
        line = f"istioctl install --set profile=minimal{flags} -y"
        return Done("Installed the mesh", tuple(lines), (line,), (), time.monotonic() - started)

    def install_gateway(self, namespace: str | None = None, name: str = "istio-ingressgateway") -> Done:
        """Install an ingress gateway, beside istiod or in a namespace of its own, and wait until it is ready. It opens
        nothing without a Gateway. One that another tool has installed under this name is used as it is.
        """
        started = time.monotonic()
        from labkit.installers.gateway import install_gateway

        where = namespace or self.mesh_status().namespace or "istio-system"
        if not self.cluster.is_embedded and self.cluster.find(SERVICE, name, where) is not None:
            return Done(f"The gateway {where}/{name} is there already")
        _installer(self.cluster)  # refuses clusters whose mesh is installed with its own tools
        made = [self.cluster.create_namespace(where)] if namespace else []
        changes = [*(one for one in made if one.action == "created")]
        changes += install_gateway(self.cluster, namespace=where, name=name)
        self._after(changes)
        line = f"helm install {name} istio/gateway -n {where}" if namespace else _GATEWAY_BY_ISTIOCTL
        return self._done(changes, line, started)

    def gateway_url(self, scheme: str = "http", path: str = "/") -> str:
        """Where the ingress gateway is reached from this machine: `lab.gateway_url("http", "/chat")`."""
        from labkit.installers.gateway import gateway_address

        namespace = self.mesh_status().namespace or "istio-system"
        return gateway_address(self.cluster, namespace=namespace).url(scheme, path)

    def address_of(self, workload: str) -> str:
        """The address of a workload's pod, to call it past its Service."""
        return str(objects.find_workload(self.cluster, workload).ready_pod()["status"]["podIP"])

    def uninstall_mesh(self) -> Done:
        """Remove the mesh. Sidecars that run keep their last configuration until their pods are restarted."""
        started = time.monotonic()
        status = self.mesh_status()
        if not status.installed and not status.knows_peer_authentication:
            return Done("There is no mesh to remove")
        self.remove_mesh(status)
        line = "istioctl uninstall --purge -y"
        return Done(f"Removed the mesh from {status.namespace}", (), (line,), (), time.monotonic() - started)

    # Verbs for `labkit.worlds`, which keep the journal too.

    def put(self, source: Any, namespace: str | None = None) -> list[Change]:
        """Apply and remember."""
        changes = self.cluster.apply(source, namespace=namespace)
        self._after(changes)
        return changes

    def put_labels(self, namespace: str, labels: dict[str, str | None]) -> Change:
        """Label a namespace and remember how it was."""
        return self._label(namespace, labels)

    def _installer(self) -> Any:
        return _installer(self.cluster)

    def put_mesh(self, namespace: str, revision: str) -> None:
        """Install a mesh and remember to remove it."""
        installer = _installer(self.cluster)
        installer.install(self.cluster, namespace=namespace, revision=revision)
        self._journal.add(Undo(f"removed the mesh from {namespace}", lambda: installer.uninstall(self.cluster)))
        self._seen.clear()

    def remove_mesh(self, status: MeshStatus) -> None:
        """Remove the mesh and remember to install it again."""
        installer = _installer(self.cluster)
        # The policies go with their kind. Recorded first, they are restored after the mesh is back.
        self._journal.record(
            Change("deleted", PEER_AUTHENTICATION, objects.name_of(policy), objects.namespace_of(policy), policy)
            for policy in self.cluster.objects(PEER_AUTHENTICATION)
        )
        installer.uninstall(self.cluster)
        if status.installed:
            where, revision = status.namespace, status.revision
            again = Undo(
                f"installed the mesh in {where}",
                lambda: installer.install(self.cluster, namespace=where, revision=revision),
            )
            self._journal.add(again)
        self._seen.clear()

    def put_gateway(self) -> None:
        """Install an ingress gateway and remember to remove it."""
        self.install_gateway()

    def remove_gateway(self, namespace: str) -> None:
        """Remove the ingress gateway and remember it."""
        from labkit.installers.gateway import uninstall_gateway

        self._after(changes := uninstall_gateway(self.cluster, namespace=namespace))
        wait_until_gone(self.cluster, changes)

    def settle(self, changes: Iterable[Change]) -> None:
        """Wait until the proxies run what was changed."""
        self._settle(changes)

    def remove_policy(self, kind: Kind, name: str, namespace: str) -> Change:
        """Delete an object of Istio and remember it."""
        change = self.cluster.delete(kind, name, namespace)
        self._after([change])
        return change

    def lose(self, what: str) -> None:
        """Remember what was removed and will not be put back, so that `leave` says so; but not what this lab made."""
        if not self._journal.has_made(what.replace(" ", "/")):
            self._lost.append(what)

    def _label(self, name: str, labels: Mapping[str, str | None]) -> Change:
        change = self.cluster.label(NAMESPACE, name, labels)
        self._journal.record_labels(change, labels)
        return change

    def _after(self, changes: Iterable[Change]) -> None:
        self._journal.record(changes)
        self._seen.clear()  # what was seen before a change says nothing about the state after it

    def _settle(self, changes: Iterable[Change]) -> None:
        """After a change of policy, wait until the proxies run it, so that the next request meets the new rules."""
        changes = list(changes)
        others = [c for c in changes if ".istio.io/" in c.kind.api_version and c.kind != PEER_AUTHENTICATION]
        if others and proxies.wait_until_delivered(self.cluster, others):
            self._drain([c for c in others if c.kind.kind in _AT_THE_SERVER])
        policies = [c for c in changes if c.kind == PEER_AUTHENTICATION and c.action != "unchanged"]
        if not policies:
            return
        snapshot = objects.take_snapshot(self.cluster)
        places = {change.namespace for change in policies}
        everywhere = snapshot.root_namespace in places
        pods = [pod for pod in snapshot.pods if everywhere or objects.namespace_of(pod) in places]

        def expected(pod: Obj, port: int | None) -> str:
            return declared.declared_mode(snapshot, pod, port)

        settling.wait_until_settled(self.cluster, pods, expected)
        # Between proxies plaintext is sent, and kept open, only where a DestinationRule asks for it.
        if self.cluster.objects(DESTINATION_RULE):
            settling.wait_until_drained(self.cluster, pods)

    def _drain(self, changes: Sequence[Change]) -> None:
        """Wait for the connections that still follow what was said before at the server's side."""
        if not changes:
            return
        snapshot = objects.take_snapshot(self.cluster)
        places = {change.namespace for change in changes}
        everywhere = snapshot.root_namespace in places
        pods = [pod for pod in snapshot.pods if everywhere or objects.namespace_of(pod) in places]
        settling.wait_until_drained(self.cluster, pods)

    def _done(self, changes: list[Change], kubectl: str | list[str], started: float) -> Done:
        lines = tuple(str(change) for change in changes)
        warnings = tuple(text for change in changes for text in change.warnings)
        counts = {
            action: sum(c.action == action for c in changes) for action in dict.fromkeys(c.action for c in changes)
        }
        what = ", ".join(f"{number} {action}" for action, number in counts.items()) or "Nothing to do"
        if len(changes) == 1:
            what, lines = str(changes[0]), ()
        commands = (kubectl,) if isinstance(kubectl, str) else tuple(kubectl)
        return Done(what, lines, commands, warnings, time.monotonic() - started)

    # -- look ---------------------------------------------------------------------------------------------------

    def from_environment(self, name: str) -> str:
        """A secret from the environment; empty when it is not set. It does not show itself in a notebook."""
        return Secret(os.environ.get(name, ""))

    def show(self, source: str | Path) -> Manifest:
        """A manifest in full view."""
        if isinstance(source, str) and not looks_like_path(source):
            load_documents(source)
            return Manifest(source.strip())
        path = find_path(source)
        text = "\n---\n".join(file.read_text(encoding="utf-8").strip() for file in manifest_files(path))
        return Manifest(text, shown_path(path))

    def pods(self, namespace: str | None = None) -> Table:
        """The pods, with kubectl's columns."""
        from labkit.views.listings import pods_table  # pandas takes 0.4 s, so only when a table is wanted

        return pods_table(self._found(POD, namespace), one_namespace=namespace is not None)

    def deployments(self, namespace: str | None = None) -> Table:
        """The Deployments, with kubectl's columns."""
        from labkit.views.listings import deployments_table

        return deployments_table(self._found(DEPLOYMENT, namespace), one_namespace=namespace is not None)

    def services(self, namespace: str | None = None) -> Table:
        """The Services, with kubectl's columns."""
        from labkit.views.listings import services_table

        return services_table(self._found(SERVICE, namespace), one_namespace=namespace is not None)

    def namespaces(self) -> Table:
        """The namespaces and their labels."""
        from labkit.views.listings import namespaces_table

        return namespaces_table(self._found(NAMESPACE, None))

    def events(self, namespace: str | None = None, *, newest: int = 20) -> Table:
        """The newest events, oldest first."""
        from labkit.views.listings import events_table

        return events_table(self._found(EVENT, namespace), one_namespace=namespace is not None, newest=newest)

    def describe_pod(self, workload: str) -> PodDescription:
        """One pod of a workload: containers, init containers, labels, annotations."""
        from labkit.views.description import describe

        reference = objects.find_workload(self.cluster, workload)
        pods = [pod for pod in reference.pods if not objects.is_terminating(pod)]
        if not pods:
            raise InputError(f"{reference} has no pods.", next_step="Look at lab.deployments().")
        return describe(pods[-1])

    def logs(self, workload: str, container: str | None = None, tail: int = 20) -> Manifest:
        """The last lines that a container printed."""
        reference = objects.find_workload(self.cluster, workload)
        pod = (list(reference.pods) or [reference.ready_pod()])[-1]
        container = container or objects.app_container(pod)
        text = self.cluster.logs(objects.name_of(pod), reference.namespace, container=container, tail=tail)
        return Manifest(text or "(nothing was printed)", f"{objects.name_of(pod)}, {container}", language="text")

    def mesh_status(self) -> MeshStatus:
        """Whether a mesh is installed, where, and whether it works."""
        return mesh.mesh_status(self.cluster)

    def proxy_status(self) -> Table:
        """Whether each proxy runs the newest configuration, as `istioctl proxy-status` shows it."""
        columns, rows = proxies.status_rows(proxies.proxy_statuses(self.cluster), datetime.now(UTC))
        return self._table(columns, rows)

    def sidecars(self, namespace: str | None = None) -> Table:
        """Who is injected, and what would happen to a new pod."""
        from labkit.views.description import sidecar_rows

        snapshot = self._snapshot(namespace)
        rows = sidecar_rows(snapshot, self.mesh_status().revision or "default")
        columns = ("NAMESPACE", "POD", "SIDECAR", "REVISION", "A NEW POD")
        return self._table(columns, rows, drop=["NAMESPACE"] if namespace else [])

    def mtls_mode(self, namespace: str | None = None, workload: str | None = None) -> str:
        """The effective mode of a namespace, of a workload (`"azureopenai/chatbackend"`), or mesh-wide."""
        snapshot = objects.take_snapshot(self.cluster)
        if workload is not None:
            pod = objects.find_workload(self.cluster, workload, namespace).ready_pod()
            return declared.declared_mode(snapshot, pod, None)
        if namespace is not None:
            self.cluster.get(NAMESPACE, namespace)
        return declared.mode_of(snapshot, namespace or snapshot.root_namespace)

    def effective_mtls(self, namespace: str) -> Table:
        """The effective mode of each workload, by port where ports differ, and who decided."""
        return self._table(declared.EFFECTIVE_COLUMNS, declared.effective_rows(self._snapshot(namespace), namespace))

    def certificate_of(self, workload: str) -> CertificateFacts:
        """The facts of the certificate that the workload's proxy presents."""
        return proxy.certificate(self.cluster, workload)

    def map(
        self,
        *namespaces: str,
        special: bool = False,
        forwards: Iterable[str] = (),
        counted: bool = False,
        resolve: bool = False,
    ) -> EncryptionMap:
        """The encryption map of some namespaces, or of all that hold pods.

        `special` adds the kubelet's probes and Prometheus' scrapes, `forwards` what a port-forward leads to, as
        "namespace/workload:port". `counted` draws what the servers' metrics have counted as well, as they see it: a
        client without a sidecar is called unknown, unless `resolve` puts in the clients that it can be.
        """
        from labkit.views.encryption_map import EncryptionMap
        from labkit.views.model import make_map

        for name in namespaces:
            self.cluster.get(NAMESPACE, name)
        snapshot = objects.take_snapshot(self.cluster, *namespaces)
        if not counted:
            return EncryptionMap(make_map(snapshot, self._seen, special=special, forwards=forwards))
        from labkit.live.counting import counted_so_far
        from labkit.views.externals import external_hosts

        counts = counted_so_far(self.cluster, namespaces, external_hosts(snapshot))
        model = make_map(snapshot, self._seen, special=special, forwards=forwards, counted=counts, resolve=resolve)
        return EncryptionMap(model)

    # -- try ----------------------------------------------------------------------------------------------------

    def probe(
        self,
        client: str,
        url: str,
        *,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        method: str | None = None,
    ) -> Observation:
        """Run curl in the client's pod. A refused connection is an observation like any other."""
        seen = traffic.probe(
            self.cluster, client, url, data=data, headers=headers, method=method, readings=self._readings
        )
        self._seen.append(seen)
        self.tried.append(seen)
        return seen

    def predict(self, client: str, url: str = "") -> Any:
        """What the policies and the sidecars will do to this request.

        With the name of a lesson's prediction in place of a client, `lab.predict("05.1")` asks the learner, and
        `lab.predict("05.1", "b")` commits to an answer.
        """
        if STEP.fullmatch(client):
            return self._commit(client, url) if url else self._ask(client)
        return self._verdict(client, url)

    def _verdict(self, client: str, url: str) -> Verdict:
        reference = objects.find_workload(self.cluster, client)
        host, port = traffic.address_of(url)
        try:
            found = self.declared_mesh().explain(str(reference), host, port, asked=Asked(traffic.path_of(url)))
        except InputError as error:
            raise InputError(
                f"From {reference}, no Service answers to {host!r} on port {port}.",
                meaning="Within its own namespace a Service is called by its name, from others by name.namespace.",
                next_step="Look at lab.services() for names and ports.",
                url=url,
            ) from error
        server = host if found.target.by_address else "/".join(traffic.service_of(url, reference.namespace))
        return found.verdict(Probe(str(reference), server, port))

    def wait_until_ready(self, what: str, *, limit: float = WAIT_SECONDS) -> Done:
        """Wait for a namespace, or for `namespace/workload`."""
        started = time.monotonic()
        pods = waiting.wait_until_ready(self.cluster, what, limit=limit)
        lines = [f"{objects.name_of(pod)} {objects.ready_text(pod)}" for pod in pods]
        namespace, slash, name = what.partition("/")
        line = (
            f"kubectl rollout status deployment/{name} -n {namespace}"
            if slash
            else f"kubectl wait pod --all --for=condition=Ready -n {namespace}"
        )
        return Done(f"{what} is ready", tuple(lines), (line,), (), time.monotonic() - started)

    def mode_panel(self, namespace: str) -> Any:
        """Buttons for the mode of a namespace; what they do is `lab.set_mtls_mode`."""
        from labkit.widgets import ModePanel

        self.cluster.get(NAMESPACE, namespace)

        def read() -> str:
            snapshot = self.live.snapshot() or objects.take_snapshot(self.cluster)
            return declared.mode_of(snapshot, namespace)

        return ModePanel(
            namespace,
            read=read,
            write=lambda mode: self.set_mtls_mode(mode, namespace),
            subscribe=lambda listener: self.live.subscribe(listener, lambda: ()),
        )

    def predict_panel(self, client: str, url: str) -> Any:
        """Commit to a prediction before the policies' verdict is shown; the verdict is `lab.predict`."""
        from labkit.widgets import PredictPanel

        return PredictPanel(f"{client} calls {url}. What will it see?", reveal=lambda: self._verdict(client, url))

    # -- plumbing -----------------------------------------------------------------------------------------------

    def _snapshot(self, namespace: str | None) -> objects.Snapshot:
        if namespace is not None:
            self.cluster.get(NAMESPACE, namespace)
        return objects.take_snapshot(self.cluster, *([namespace] if namespace else []))

    def _found(self, kind: Kind, namespace: str | None) -> list[Obj]:
        if namespace is not None:
            self.cluster.get(NAMESPACE, namespace)
        return self.cluster.objects(kind, namespace)

    def _table(self, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]], *, drop: Iterable[str] = ()) -> Table:
        from labkit.views.tables import make_table

        return make_table(columns, rows, drop=list(drop))

    def _facts(self) -> list[tuple[str, str]]:
        facts = [("cluster", self.cluster.name), ("API server", f"{self.cluster.server} ({self.cluster.version()})")]
        if self.cluster.kubeconfig:
            facts.append(("for kubectl", f"export KUBECONFIG={self.cluster.kubeconfig}"))
        elif self.cluster.context:
            facts.append(("for kubectl", f"kubectl --context {self.cluster.context}"))
        status = self.mesh_status()
        return [*facts, ("mesh", f"{status.namespace}, revision {status.revision}" if status.installed else "none")]

    def __repr__(self) -> str:
        return f"Lab({self.cluster.name!r}, server={self.cluster.server!r})"

    def _repr_html_(self) -> str:
        from labkit.views.page import table

        return table(("LAB", ""), self._facts())


_GATEWAY_BY_ISTIOCTL = "istioctl install --set components.ingressGateways[0].enabled=true -y"


def _installer(cluster: Cluster) -> Any:
    if not cluster.is_embedded:
        raise InputError(
            f"labkit installs a mesh on the embedded cluster only, and this is {cluster.name!r}.",
            meaning="On a real cluster the mesh is installed with its own tools; labkit then uses what is there.",
            next_step="Run 'istioctl install', or 'az aks mesh enable', and open the lab again.",
        )
    from labkit.installers import embedded

    return embedded


def _is_file(source: str) -> bool:
    try:
        return find_path(source).exists()
    except InputError:
        return False


__all__ = ["MODES", "Lab", "Secret", "open"]
