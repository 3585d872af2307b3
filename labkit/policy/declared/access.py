"""Whether a server's AuthorizationPolicies let a caller in, where the request itself is not known yet.

An edge stands for many requests, so what a policy asks of method, path, host, headers or token is neither true nor
false: the answer has three values (Kleene's logic). What it asks of the caller's identity, address and the port is
known; so is what is said of the request (`told`). The rules are those of `labkit.policy.authorization.authorize`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labkit.policy.authorization import Action, AuthorizationPolicy, Condition, Request, Rule, condition_holds

NO, MAYBE, YES = 0, 1, 2


@dataclass(frozen=True)
class Access:
    """`answer` is NO, MAYBE (it depends on the request) or YES; `policy` is who says it."""

    answer: int
    reason: str = ""
    policy: AuthorizationPolicy | None = None


def access(policies: Sequence[AuthorizationPolicy], request: Request, told: frozenset[str] = frozenset()) -> Access:
    """What the policies of one workload say to a caller. `request` is known but for what is HTTP's own; of that only
    the keys of conditions that are `told`.
    """
    for policy in policies:
        if policy.action is Action.CUSTOM:
            return Access(NO, f"{policy} asks a provider that does not exist, so it denies", policy)
    denying = [(matches(one, request, told), one) for one in policies if one.action is Action.DENY]
    for answer, policy in denying:
        if answer == YES:
            return Access(NO, f"{policy} denies it", policy)
    allowing = [(matches(one, request, told), one) for one in policies if one.action is Action.ALLOW]
    best, who = max(allowing, key=lambda one: one[0], default=(YES, None))
    if best == NO and who:
        secret = "" if request.principal else ": the caller shows no certificate, so it has no principal"
        names = ", ".join(str(one.meta) for _, one in allowing)
        return Access(NO, f"no rule of AuthorizationPolicy {names} allows it{secret}", who)
    perhaps = next((one for answer, one in denying if answer == MAYBE), None)
    if perhaps:
        return Access(MAYBE, f"{perhaps} denies some requests", perhaps)
    if best == MAYBE:
        return Access(MAYBE, f"{who} allows some requests, by method, path, header or token", who)
    return Access(YES, f"{who} allows it" if who else "", who)


def matches(policy: AuthorizationPolicy, request: Request, told: frozenset[str] = frozenset()) -> int:
    """Whether one of the policy's rules matches."""
    rules: Iterable[Rule | None] = policy.rules
    if not request.http:
        rules = (one.without_http(policy.action) for one in policy.rules)
    return max((_rule(one, request, told) for one in rules if one is not None), default=NO)


def _rule(rule: Rule, request: Request, told: frozenset[str]) -> int:
    sources, operations = (_groups(part, request, told) for part in (rule.sources, rule.operations))
    return min(sources, operations, _all(rule.when, request, told))


def _groups(groups: tuple[tuple[Condition, ...], ...], request: Request, told: frozenset[str]) -> int:
    return max((_all(group, request, told) for group in groups), default=YES)


def _all(conditions: Iterable[Condition], request: Request, told: frozenset[str]) -> int:
    return min((_one(condition, request, told) for condition in conditions), default=YES)


def _one(condition: Condition, request: Request, told: frozenset[str]) -> int:
    unknown = condition.http_only and condition.key not in told
    if unknown or condition.key.startswith("experimental."):
        return MAYBE
    if condition.key in ("source.ip", "remote.ip") and not request.source_ip:
        return MAYBE  # nobody has an address before it runs
    if condition.key == "destination.ip" and not request.destination_ip:
        return MAYBE
    return YES if condition_holds(condition, request) else NO
