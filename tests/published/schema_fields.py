"""The fields of Istio's kinds as Istio publishes them: istio/api, kubernetes/customresourcedefinitions.gen.yaml.

Read there and written down here by hand, apart from the definitions that labkit installs, so that the two can be held
against each other. A name with `!` is required. A text is a type, or the values of an enumeration with `|` between; a
list is an array; `{"*": ...}` a map; ANY is kept as it is written. Shared parts have names, as in Istio's protos.
"""

from __future__ import annotations

from typing import Any

Fields = dict[str, Any]

ANY = "any"
TEXT, NUMBER, INT, BOOL = "string", "number", "integer", "boolean"
TEXTS = [TEXT]
LABELS = {"*": TEXT}

SELECTOR: Fields = {"matchLabels": LABELS}
WORKLOAD_SELECTOR: Fields = {"labels": LABELS}
REFERENCE: Fields = {"group": TEXT, "kind!": TEXT, "name!": TEXT, "namespace": TEXT}
PORT: Fields = {"number": INT, "protocol": TEXT, "name": TEXT, "targetPort": INT}
PORT_SELECTOR: Fields = {"number": INT}
DESTINATION: Fields = {"host!": TEXT, "subset": TEXT, "port": PORT_SELECTOR}
TLS_VERSION = "TLS_AUTO|TLSV1_0|TLSV1_1|TLSV1_2|TLSV1_3"

SERVER_TLS: Fields = {
    "mode": "PASSTHROUGH|SIMPLE|MUTUAL|AUTO_PASSTHROUGH|ISTIO_MUTUAL|OPTIONAL_MUTUAL",
    "httpsRedirect": BOOL,
    "credentialName": TEXT,
    "credentialNames": TEXTS,
    "caCertCredentialName": TEXT,
    "serverCertificate": TEXT,
    "privateKey": TEXT,
    "caCertificates": TEXT,
    "caCrl": TEXT,
    "subjectAltNames": TEXTS,
    "verifyCertificateSpki": TEXTS,
    "verifyCertificateHash": TEXTS,
    "minProtocolVersion": TLS_VERSION,
    "maxProtocolVersion": TLS_VERSION,
    "cipherSuites": TEXTS,
    "tlsCertificates": [{"serverCertificate": TEXT, "privateKey": TEXT, "caCertificates": TEXT}],
}

CLIENT_TLS: Fields = {
    "mode": "DISABLE|SIMPLE|MUTUAL|ISTIO_MUTUAL",
    "clientCertificate": TEXT,
    "privateKey": TEXT,
    "caCertificates": TEXT,
    "caCrl": TEXT,
    "credentialName": TEXT,
    "subjectAltNames": TEXTS,
    "sni": TEXT,
    "insecureSkipVerify": BOOL,
}
CONNECTION_POOL: Fields = {
    "tcp": {
        "maxConnections": INT,
        "connectTimeout": TEXT,
        "idleTimeout": TEXT,
        "maxConnectionDuration": TEXT,
        "tcpKeepalive": {"probes": INT, "time": TEXT, "interval": TEXT},
    },
    "http": {
        "http1MaxPendingRequests": INT,
        "http2MaxRequests": INT,
        "maxRequestsPerConnection": INT,
        "maxRetries": INT,
        "maxConcurrentStreams": INT,
        "idleTimeout": TEXT,
        "useClientProtocol": BOOL,
        "h2UpgradePolicy": "DEFAULT|DO_NOT_UPGRADE|UPGRADE",
    },
}
LOAD_BALANCER: Fields = {
    "simple": "UNSPECIFIED|LEAST_CONN|RANDOM|PASSTHROUGH|ROUND_ROBIN|LEAST_REQUEST",
    "consistentHash": {
        "httpHeaderName": TEXT,
        "httpCookie": {"name!": TEXT, "path": TEXT, "ttl": TEXT, "attributes": [{"name!": TEXT, "value": TEXT}]},
        "useSourceIp": BOOL,
        "httpQueryParameterName": TEXT,
        "minimumRingSize": INT,
        "ringHash": {"minimumRingSize": INT},
        "maglev": {"tableSize": INT},
    },
    "localityLbSetting": {
        "enabled": BOOL,
        "failoverPriority": TEXTS,
        "failover": [{"from": TEXT, "to": TEXT}],
        "distribute": [{"from": TEXT, "to": {"*": INT}}],
    },
    "warmupDurationSecs": TEXT,
    "warmup": {"duration!": TEXT, "minimumPercent": NUMBER, "aggression": NUMBER},
}
OUTLIERS: Fields = {
    "consecutiveErrors": INT,
    "consecutive5xxErrors": INT,
    "consecutiveGatewayErrors": INT,
    "consecutiveLocalOriginFailures": INT,
    "splitExternalLocalOriginErrors": BOOL,
    "interval": TEXT,
    "baseEjectionTime": TEXT,
    "maxEjectionPercent": INT,
    "minHealthPercent": INT,
}
PORT_POLICY: Fields = {
    "connectionPool": CONNECTION_POOL,
    "loadBalancer": LOAD_BALANCER,
    "outlierDetection": OUTLIERS,
    "tls": CLIENT_TLS,
}
TRAFFIC_POLICY: Fields = {
    **PORT_POLICY,
    "portLevelSettings": [{**PORT_POLICY, "port": PORT_SELECTOR}],
    "proxyProtocol": {"version": "V1|V2"},
    "retryBudget": {"percent": NUMBER, "minRetryConcurrency": INT},
    "tunnel": {"protocol": TEXT, "targetHost!": TEXT, "targetPort!": INT},
}

STRING_MATCH: Fields = {"exact": TEXT, "prefix": TEXT, "regex": TEXT}
PERCENT: Fields = {"value": NUMBER}
HEADER_OPERATIONS: Fields = {"set": LABELS, "add": LABELS, "remove": TEXTS}
HEADERS: Fields = {"request": HEADER_OPERATIONS, "response": HEADER_OPERATIONS}
LAYER4_ROUTE = [{"destination!": DESTINATION, "weight": INT}]
LAYER4_MATCH: Fields = {
    "destinationSubnets": TEXTS,
    "port": INT,
    "sourceLabels": LABELS,
    "sourceNamespace": TEXT,
    "gateways": TEXTS,
}

WORKLOAD_ENTRY: Fields = {
    "address": TEXT,
    "ports": {"*": INT},
    "labels": LABELS,
    "network": TEXT,
    "locality": TEXT,
    "weight": INT,
    "serviceAccount": TEXT,
}

MODE: Fields = {"mode": "CLIENT_AND_SERVER|CLIENT|SERVER"}
PROVIDERS = [{"name!": TEXT}]

SPECS: dict[str, Fields] = {
    "AuthorizationPolicy": {
        "selector": SELECTOR,
        "targetRef": REFERENCE,
        "targetRefs": [REFERENCE],
        "action": "ALLOW|DENY|AUDIT|CUSTOM",
        "provider": {"name": TEXT},
        "rules": [
            {
                "from": [
                    {
                        "source": {
                            "principals": TEXTS,
                            "notPrincipals": TEXTS,
                            "requestPrincipals": TEXTS,
                            "notRequestPrincipals": TEXTS,
                            "namespaces": TEXTS,
                            "notNamespaces": TEXTS,
                            "serviceAccounts": TEXTS,
                            "notServiceAccounts": TEXTS,
                            # of Istio 1.30, https://istio.io/latest/docs/reference/config/security/authorization-policy/
                            "trustDomains": TEXTS,
                            "notTrustDomains": TEXTS,
                            "ipBlocks": TEXTS,
                            "notIpBlocks": TEXTS,
                            "remoteIpBlocks": TEXTS,
                            "notRemoteIpBlocks": TEXTS,
                        }
                    }
                ],
                "to": [
                    {
                        "operation": {
                            "hosts": TEXTS,
                            "notHosts": TEXTS,
                            "ports": TEXTS,
                            "notPorts": TEXTS,
                            "methods": TEXTS,
                            "notMethods": TEXTS,
                            "paths": TEXTS,
                            "notPaths": TEXTS,
                        }
                    }
                ],
                "when": [{"key!": TEXT, "values": TEXTS, "notValues": TEXTS}],
            }
        ],
    },
    "DestinationRule": {
        "host!": TEXT,
        "trafficPolicy": TRAFFIC_POLICY,
        "subsets": [{"name!": TEXT, "labels": LABELS, "trafficPolicy": TRAFFIC_POLICY}],
        "exportTo": TEXTS,
        "workloadSelector": SELECTOR,
    },
    "EnvoyFilter": {
        "workloadSelector": WORKLOAD_SELECTOR,
        "targetRefs": [REFERENCE],
        "priority": INT,
        "configPatches": [
            {
                "applyTo": "INVALID|LISTENER|FILTER_CHAIN|NETWORK_FILTER|HTTP_FILTER|ROUTE_CONFIGURATION|VIRTUAL_HOST|"
                "HTTP_ROUTE|CLUSTER|EXTENSION_CONFIG|BOOTSTRAP|LISTENER_FILTER",
                "match": {
                    "context": "ANY|SIDECAR_INBOUND|SIDECAR_OUTBOUND|GATEWAY|WAYPOINT",
                    "proxy": {"proxyVersion": TEXT, "metadata": LABELS},
                    "listener": {
                        "portNumber": INT,
                        "portName": TEXT,
                        "name": TEXT,
                        "listenerFilter": TEXT,
                        "filterChain": {
                            "name": TEXT,
                            "sni": TEXT,
                            "transportProtocol": TEXT,
                            "applicationProtocols": TEXT,
                            "destinationPort": INT,
                            "filter": {"name": TEXT, "subFilter": {"name": TEXT}},
                        },
                    },
                    "routeConfiguration": {
                        "portNumber": INT,
                        "portName": TEXT,
                        "gateway": TEXT,
                        "name": TEXT,
                        "vhost": {
                            "name": TEXT,
                            "domainName": TEXT,
                            "route": {"name": TEXT, "action": "ANY|ROUTE|REDIRECT|DIRECT_RESPONSE"},
                        },
                    },
                    "cluster": {"portNumber": INT, "service": TEXT, "subset": TEXT, "name": TEXT},
                    "waypoint": {
                        "portNumber": INT,
                        "filter": {"name": TEXT, "subFilter": {"name": TEXT}},
                        "route": {"name": TEXT},
                    },
                },
                "patch": {
                    "operation": "INVALID|MERGE|ADD|REMOVE|INSERT_BEFORE|INSERT_AFTER|INSERT_FIRST|REPLACE",
                    "value": ANY,
                    "filterClass": "UNSPECIFIED|AUTHN|AUTHZ|STATS",
                },
            }
        ],
    },
    "Gateway": {
        "selector": LABELS,
        "servers": [
            {
                "name": TEXT,
                "bind": TEXT,
                "defaultEndpoint": TEXT,
                "hosts!": TEXTS,
                "port!": {"number!": INT, "protocol!": TEXT, "name!": TEXT, "targetPort": INT},
                "tls": SERVER_TLS,
            }
        ],
    },
    "PeerAuthentication": {
        "selector": SELECTOR,
        "mtls": {"mode": "UNSET|DISABLE|PERMISSIVE|STRICT"},
        "portLevelMtls": {"*": {"mode": "UNSET|DISABLE|PERMISSIVE|STRICT"}},
    },
    "ProxyConfig": {
        "selector": SELECTOR,
        "concurrency": INT,
        "environmentVariables": LABELS,
        "image": {"imageType": TEXT},
    },
    "RequestAuthentication": {
        "selector": SELECTOR,
        "targetRef": REFERENCE,
        "targetRefs": [REFERENCE],
        "jwtRules": [
            {
                "issuer": TEXT,
                "audiences": TEXTS,
                "jwksUri": TEXT,
                "jwks_uri": TEXT,
                "jwks": TEXT,
                "fromHeaders": [{"name!": TEXT, "prefix": TEXT}],
                "fromParams": TEXTS,
                "fromCookies": TEXTS,
                "outputPayloadToHeader": TEXT,
                "outputClaimToHeaders": [{"header!": TEXT, "claim!": TEXT}],
                "forwardOriginalToken": BOOL,
                "spaceDelimitedClaims": TEXTS,
                "timeout": TEXT,
            }
        ],
    },
    "ServiceEntry": {
        "hosts!": TEXTS,
        "addresses": TEXTS,
        "ports": [{"number!": INT, "name!": TEXT, "protocol": TEXT, "targetPort": INT}],
        "location": "MESH_EXTERNAL|MESH_INTERNAL",
        "resolution": "NONE|STATIC|DNS|DNS_ROUND_ROBIN|DYNAMIC_DNS",
        "endpoints": [WORKLOAD_ENTRY],
        "workloadSelector": WORKLOAD_SELECTOR,
        "exportTo": TEXTS,
        "subjectAltNames": TEXTS,
    },
    "Sidecar": {
        "workloadSelector": WORKLOAD_SELECTOR,
        "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY|ALLOW_ANY", "egressProxy": DESTINATION},
        "egress": [{"hosts!": TEXTS, "bind": TEXT, "captureMode": "DEFAULT|IPTABLES|NONE", "port": PORT}],
        "ingress": [
            {
                "port!": PORT,
                "bind": TEXT,
                "captureMode": "DEFAULT|IPTABLES|NONE",
                "defaultEndpoint": TEXT,
                "tls": SERVER_TLS,
                "connectionPool": CONNECTION_POOL,
            }
        ],
        "inboundConnectionPool": CONNECTION_POOL,
    },
    "Telemetry": {
        "selector": SELECTOR,
        "targetRef": REFERENCE,
        "targetRefs": [REFERENCE],
        "accessLogging": [
            {"match": MODE, "providers": PROVIDERS, "disabled": BOOL, "filter": {"expression": TEXT}},
        ],
        "metrics": [
            {
                "providers": PROVIDERS,
                "reportingInterval": TEXT,
                "overrides": [
                    {
                        "disabled": BOOL,
                        "match": {
                            **MODE,
                            "customMetric": TEXT,
                            "metric": "ALL_METRICS|REQUEST_COUNT|REQUEST_DURATION|REQUEST_SIZE|RESPONSE_SIZE|"
                            "TCP_OPENED_CONNECTIONS|TCP_CLOSED_CONNECTIONS|TCP_SENT_BYTES|TCP_RECEIVED_BYTES|"
                            "GRPC_REQUEST_MESSAGES|GRPC_RESPONSE_MESSAGES",
                        },
                        "tagOverrides": {"*": {"operation": "UPSERT|REMOVE", "value": TEXT}},
                    }
                ],
            }
        ],
        "tracing": [
            {
                "match": MODE,
                "providers": PROVIDERS,
                "randomSamplingPercentage": NUMBER,
                "disableSpanReporting": BOOL,
                "useRequestIdForTraceSampling": BOOL,
                "enableIstioTags": BOOL,
                "customTags": {
                    "*": {
                        "literal": {"value!": TEXT},
                        "environment": {"name!": TEXT, "defaultValue": TEXT},
                        "header": {"name!": TEXT, "defaultValue": TEXT},
                        "formatter": {"value!": TEXT},
                    }
                },
            }
        ],
    },
    "VirtualService": {
        "hosts": TEXTS,
        "gateways": TEXTS,
        "exportTo": TEXTS,
        "http": [
            {
                "name": TEXT,
                "match": [
                    {
                        "name": TEXT,
                        "uri": STRING_MATCH,
                        "scheme": STRING_MATCH,
                        "method": STRING_MATCH,
                        "authority": STRING_MATCH,
                        "headers": {"*": STRING_MATCH},
                        "withoutHeaders": {"*": STRING_MATCH},
                        "queryParams": {"*": STRING_MATCH},
                        "ignoreUriCase": BOOL,
                        "port": INT,
                        "sourceLabels": LABELS,
                        "sourceNamespace": TEXT,
                        "gateways": TEXTS,
                        "statPrefix": TEXT,
                    }
                ],
                "route": [{"destination!": DESTINATION, "weight": INT, "headers": HEADERS}],
                "redirect": {
                    "uri": TEXT,
                    "authority": TEXT,
                    "scheme": TEXT,
                    "port": INT,
                    "derivePort": "FROM_PROTOCOL_DEFAULT|FROM_REQUEST_PORT",
                    "redirectCode": INT,
                },
                "directResponse": {"status!": INT, "body": {"string": TEXT, "bytes": TEXT}},
                "delegate": {"name": TEXT, "namespace": TEXT},
                "rewrite": {"uri": TEXT, "authority": TEXT, "uriRegexRewrite": {"match": TEXT, "rewrite": TEXT}},
                "timeout": TEXT,
                "retries": {
                    "attempts": INT,
                    "perTryTimeout": TEXT,
                    "retryOn": TEXT,
                    "retryRemoteLocalities": BOOL,
                    "retryIgnorePreviousHosts": BOOL,
                    "backoff": TEXT,
                },
                "fault": {
                    "delay": {"percent": INT, "percentage": PERCENT, "fixedDelay": TEXT, "exponentialDelay": TEXT},
                    "abort": {"percentage": PERCENT, "httpStatus": INT, "grpcStatus": TEXT, "http2Error": TEXT},
                },
                "mirror": DESTINATION,
                "mirrors": [{"destination!": DESTINATION, "percentage": PERCENT}],
                "mirrorPercent": INT,
                "mirror_percent": INT,
                "mirrorPercentage": PERCENT,
                "corsPolicy": {
                    "allowOrigin": TEXTS,
                    "allowOrigins": [STRING_MATCH],
                    "allowMethods": TEXTS,
                    "allowHeaders": TEXTS,
                    "exposeHeaders": TEXTS,
                    "maxAge": TEXT,
                    "allowCredentials": BOOL,
                    "unmatchedPreflights": "UNSPECIFIED|FORWARD|IGNORE",
                },
                "headers": HEADERS,
            }
        ],
        "tls": [{"match!": [{"sniHosts!": TEXTS, **LAYER4_MATCH}], "route": LAYER4_ROUTE}],
        "tcp": [{"match": [{**LAYER4_MATCH, "sourceSubnet": TEXT}], "route": LAYER4_ROUTE}],
    },
    "WasmPlugin": {
        "selector": SELECTOR,
        "targetRef": REFERENCE,
        "targetRefs": [REFERENCE],
        "url!": TEXT,
        "sha256": TEXT,
        "imagePullPolicy": "UNSPECIFIED_POLICY|IfNotPresent|Always",
        "imagePullSecret": TEXT,
        "verificationKey": TEXT,
        "pluginConfig": ANY,
        "pluginName": TEXT,
        "phase": "UNSPECIFIED_PHASE|AUTHN|AUTHZ|STATS",
        "priority": INT,
        "failStrategy": "FAIL_CLOSE|FAIL_OPEN|FAIL_RELOAD",
        "type": "UNSPECIFIED_PLUGIN_TYPE|HTTP|NETWORK",
        "match": [{"mode": "UNDEFINED|CLIENT|SERVER|CLIENT_AND_SERVER", "ports": [{"number!": INT}]}],
        "vmConfig": {"env": [{"name!": TEXT, "value": TEXT, "valueFrom": "INLINE|HOST"}]},
    },
    "WorkloadEntry": WORKLOAD_ENTRY,
    "WorkloadGroup": {
        "metadata": {"labels": LABELS, "annotations": LABELS},
        "template!": WORKLOAD_ENTRY,
        "probe": {
            "initialDelaySeconds": INT,
            "timeoutSeconds": INT,
            "periodSeconds": INT,
            "successThreshold": INT,
            "failureThreshold": INT,
            "httpGet": {
                "path": TEXT,
                "port!": INT,
                "host": TEXT,
                "scheme": TEXT,
                "httpHeaders": [{"name": TEXT, "value": TEXT}],
            },
            "tcpSocket": {"host": TEXT, "port!": INT},
            "exec": {"command!": TEXTS},
            "grpc": {"port": INT, "service": TEXT},
        },
    },
}

VERSIONS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "AuthorizationPolicy": ("security.istio.io", ("v1", "v1beta1"), "ap"),
    "DestinationRule": ("networking.istio.io", ("v1", "v1alpha3", "v1beta1"), "dr"),
    "EnvoyFilter": ("networking.istio.io", ("v1alpha3",), ""),
    "Gateway": ("networking.istio.io", ("v1", "v1alpha3", "v1beta1"), "gw"),
    "PeerAuthentication": ("security.istio.io", ("v1", "v1beta1"), "pa"),
    "ProxyConfig": ("networking.istio.io", ("v1beta1",), ""),
    "RequestAuthentication": ("security.istio.io", ("v1", "v1beta1"), "ra"),
    "ServiceEntry": ("networking.istio.io", ("v1", "v1alpha3", "v1beta1"), "se"),
    "Sidecar": ("networking.istio.io", ("v1", "v1alpha3", "v1beta1"), ""),
    "Telemetry": ("telemetry.istio.io", ("v1", "v1alpha1"), "telemetry"),
    "VirtualService": ("networking.istio.io", ("v1", "v1alpha3", "v1beta1"), "vs"),
    "WasmPlugin": ("extensions.istio.io", ("v1alpha1",), ""),
    "WorkloadEntry": ("networking.istio.io", ("v1", "v1alpha3", "v1beta1"), "we"),
    "WorkloadGroup": ("networking.istio.io", ("v1", "v1alpha3", "v1beta1"), "wg"),
}
"""Group, served versions, short name."""
