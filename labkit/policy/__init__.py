"""What the objects mean: pure functions over Kubernetes objects (as dicts) and frozen data.

No socket, process, event loop, Kubernetes client, YAML or notebook: everything here answers at once, anywhere.
The table of filter chains is in `labkit.policy.inbound`, the words Verdict and Probe in `labkit.outcomes`.
"""

from labkit.policy.client_tls import ClientTLS, ServiceTLS, client_tls, endpoint_tls_mode, service_tls
from labkit.policy.destination_rule import DestinationRule, destination_rule, parse_destination_rule
from labkit.policy.identity import SpiffeID, parse_spiffe_id, spiffe_id, trust_domain_san_prefixes
from labkit.policy.inbound import find_chain, inbound_filter_chains
from labkit.policy.injection import InjectionDecision, injection_decision, injection_webhooks
from labkit.policy.modes import MutualTLSMode
from labkit.policy.peer_authentication import (
    EffectiveMTLS,
    PeerAuthentication,
    compose_peer_authentication,
    namespace_mode,
    parse_peer_authentication,
)
from labkit.policy.prediction import predict
from labkit.policy.protocols import Protocol, protocol_of
from labkit.policy.service_entry import ServiceEntry, WorkloadEntry, parse_service_entry, parse_workload_entry
from labkit.policy.validation import Validation, validate_peer_authentication, validate_schema
from labkit.policy.workload import ContainerPort, Workload, workload_from_pod
from labkit.policy.world import World

__all__ = [
    "ClientTLS",
    "ContainerPort",
    "DestinationRule",
    "EffectiveMTLS",
    "InjectionDecision",
    "MutualTLSMode",
    "PeerAuthentication",
    "Protocol",
    "ServiceEntry",
    "ServiceTLS",
    "SpiffeID",
    "Validation",
    "Workload",
    "WorkloadEntry",
    "World",
    "client_tls",
    "compose_peer_authentication",
    "destination_rule",
    "endpoint_tls_mode",
    "find_chain",
    "inbound_filter_chains",
    "injection_decision",
    "injection_webhooks",
    "namespace_mode",
    "parse_destination_rule",
    "parse_peer_authentication",
    "parse_service_entry",
    "parse_spiffe_id",
    "parse_workload_entry",
    "predict",
    "protocol_of",
    "service_tls",
    "spiffe_id",
    "trust_domain_san_prefixes",
    "validate_peer_authentication",
    "validate_schema",
    "workload_from_pod",
]
