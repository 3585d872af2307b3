"""Expected against observed: a check judges evidence and answers with a result and one hint. It displays nothing."""

from labkit.checks.lessons import CHECKS, find_check
from labkit.checks.results import Check, CheckResult, PodFacts, pod_facts

__all__ = ["CHECKS", "Check", "CheckResult", "PodFacts", "find_check", "pod_facts"]
