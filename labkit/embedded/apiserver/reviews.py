"""Kinds that are questions: may I, who am I. One user, who may do everything. Pure."""

from __future__ import annotations

from typing import Any

from labkit.embedded.apiserver.resources import Kind

Object = dict[str, Any]

USER: Object = {"username": "kubernetes-admin", "groups": ["system:masters", "system:authenticated"]}


def answer_review(kind: Kind, review: Object) -> Object:
    """The review with its status filled in."""
    review["metadata"] = {**(review.get("metadata") or {}), "creationTimestamp": None}
    if kind.plural == "selfsubjectreviews":
        review["status"] = {"userInfo": USER}
    elif kind.plural == "tokenreviews":
        review["status"] = {"authenticated": True, "user": USER}
    elif kind.plural == "selfsubjectrulesreviews":
        rules = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
        urls = [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
        review["status"] = {"resourceRules": rules, "nonResourceRules": urls, "incomplete": False}
    else:
        review["status"] = {"allowed": True, "reason": "the embedded cluster has one user, who may do everything"}
    return review
