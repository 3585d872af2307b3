"""Expected against observed: a check judges evidence and answers with a result and one hint. It displays nothing."""

from labkit.checks.registry import CHECKS, checks_of, find_check
from labkit.checks.results import Check, CheckResult, CheckResults, PodFacts, pod_facts

__all__ = ["CHECKS", "Check", "CheckResult", "CheckResults", "PodFacts", "checks_of", "find_check", "pod_facts"]
