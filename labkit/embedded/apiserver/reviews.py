"""Kinds that are questions: may I, who am I. Whoever is known may do everything. Pure."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from labkit.embedded.apiserver.resources import Kind

Object = dict[str, Any]


@dataclass(frozen=True)
class User:
    """Whom a credential stands for."""

    name: str
    groups: tuple[str, ...] = ()

    def as_json(self) -> Object:
        """The `userInfo` of reviews. Whoever is known is in one group more."""
        return {"username": self.name, "groups": [*self.groups, "system:authenticated"]}


ADMINISTRATOR = User("kubernetes-admin", ("system:masters",))
current_user: ContextVar[User] = ContextVar("current_user", default=ADMINISTRATOR)
"""Who sent the request that is being answered."""


def answer_review(kind: Kind, review: Object) -> Object:
    """The review with its status filled in."""
    review["metadata"] = {**(review.get("metadata") or {}), "creationTimestamp": None}
    if kind.plural == "selfsubjectreviews":
        review["status"] = {"userInfo": current_user.get().as_json()}
    elif kind.plural == "tokenreviews":
        review["status"] = {"authenticated": True, "user": ADMINISTRATOR.as_json()}
    elif kind.plural == "selfsubjectrulesreviews":
        rules = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
        urls = [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
        review["status"] = {"resourceRules": rules, "nonResourceRules": urls, "incomplete": False}
    else:
        review["status"] = {"allowed": True, "reason": "on the embedded cluster every user may do everything"}
    return review
