"""Lab: what a notebook holds. It ties the rooms together and decides nothing.

    import labkit
    lab = labkit.open("embedded")            # or "embedded:<name>", or a kubeconfig context

A *workload* is written "namespace/name" (a Deployment, or a pod); "name" alone is looked up in `default` first, then
in all namespaces, and must be unique there. Everything that changes the cluster returns a `Done`, which shows what
happened and the kubectl line that does the same. Errors are `labkit.LabError`: three lines, never a traceback.

The state of a lesson
    lab.world("03")                          bring the cluster to what lesson 03 starts from; says what it changed
                                             (options: mesh_namespace="istio-system", revision="default")
    lab.leave()                              put back what was there when the notebook opened the lab
    lab.check(name, *evidence)               judge evidence; prints "passed", or expected / observed / one hint;
                                             never raises. `lab.check()` alone lists the names and their evidence
    lab.results                              all CheckResults so far

Change
    lab.apply(source, namespace=None)        path, directory, YAML text, dict or list of them; all or nothing
    lab.attempt(source, namespace=None)      as apply, but a refusal is shown and never raised; a source that still
                                             holds the blank `...` is not sent: .pending (for exercises)
    lab.delete(source, namespace=None)       the same sources, or "peerauthentication/name"
    lab.create_namespace(name, **labels)     also labels={"istio.io/rev": "default"}
    lab.label_namespace(name, {"istio.io/rev": "asm-1-24"})       a value of None removes the label
    lab.restart("azureopenai/chatbackend")   like kubectl rollout restart; waits until it is done
    lab.set_mtls_mode("STRICT", "azureopenai", name="default")    the namespace-wide PeerAuthentication
    lab.install_mesh(namespace="istio-system", revision="default")      waits for istiod
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
    lab.map(*namespaces)                     the encryption map as a picture with its text twin

Try
    lab.probe(client, url, data=None, headers=None, method=None)        runs curl in the client -> Observation
                                             .http_status .exit_code .error .body .headers .json() .command
    lab.predict(client, url)                 what the policies say will happen -> Verdict
    lab.wait_until_ready(what)               "azureopenai" (a namespace) or "azureopenai/chatbackend"
    lab.mode_panel(namespace)                buttons UNSET DISABLE PERMISSIVE STRICT (twin: lab.set_mtls_mode)
    lab.predict_panel(client, url)           commit to a prediction before you see it (twin: lab.predict)

Checks of the lessons (evidence in brackets may be left out: the lab collects it)
    00-cluster-answers []                    the API answers and the node is Ready
    00-no-mesh [mesh_status]                 nothing of Istio is installed
    01-kind-unknown [mesh_status]            before: PeerAuthentication is an unknown kind
    01-pods-plain [pods]                     before: every pod is 1/1
    01-mesh-installed [mesh_status]          istiod is ready
    01-kinds-served [mesh_status]            PeerAuthentication is a known kind
    01-webhook-registered [mesh_status]      the injection webhook is registered, with a CA bundle
    02-plain-pods [pods]                     the chat pods are 1/1 and have no istio-proxy
    02-namespace-labelled [namespace]        azureopenai carries istio.io/rev (or istio-injection)
    02-running-pods-unchanged [pods]         the label alone changed no running pod: still 1/1
    02-injected-pods [pods]                  all four chat pods are 2/2
    02-inside-the-pod [pods]                 istio-init completed, istio-proxy runs, label security.istio.io/tlsMode
    02-outside-not-injected [pods of default]         curl-outside is 1/1
    02-mesh-request observation              the frontend's request is answered 200
    03-permissive [effective_mtls]           azureopenai is PERMISSIVE, and no policy decided that
    03-plaintext-accepted observation        curl-outside: 200 with model and reply
    03-mesh-client-accepted observation      chatfrontend: 200 with model and reply
    03-certificate [certificate]             spiffe://cluster.local/ns/azureopenai/sa/..., within its time
    04-strict-declared [effective_mtls]      every workload of azureopenai is STRICT
    04-plaintext-refused observation         curl-outside: exit code 56, Connection reset by peer
    04-mesh-client-accepted observation      chatfrontend: still 200
    04-prediction verdict observation        what was predicted is what was seen

Checks of the exercises (`...` or a pending attempt as evidence gives "not yet", which is not a failure)
    00-count-containers answer               1
    01-first-policy attempt                  the namespace default is STRICT
    02-inside-client attempt                 azureopenai/curl-inside is 2/2
    03-opt-out attempt                       azureopenai/curl-plain is 1/1, and its request is answered in plaintext
    04-one-port attempt                      curl-outside: 200 from chatbackend:5000, and still refused by
                                             chatfrontend-service:80
"""
