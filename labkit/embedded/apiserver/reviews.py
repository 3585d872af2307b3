"""Kinds that are questions: may I, who am I. Whoever is known may do everything. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from labkit.embedded.apiserver.failures import bad_request
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


def impersonated(headers: Mapping[str, str], user: User) -> User:
    """Whom the request wants to be (`kubectl --as`). Everybody may, because everybody may do everything.

    https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation
    """
    name = headers.get("Impersonate-User", "")
    if not name:
        if any(header.lower().startswith("impersonate-") for header in headers):
            raise bad_request("requested impersonation of groups or extra values without impersonating a user")
        return user
    groups = headers.getall("Impersonate-Group", []) if hasattr(headers, "getall") else []
    return User(name, tuple(groups))


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
