"""The node of the embedded cluster: a kubelet whose containers are processes.

The name is resolved lazily: `lifecycle` asks `processes` about a crashed cluster and needs no event loop for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.embedded.node.node import NODE_NAME, Node

__all__ = ["NODE_NAME", "Node"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from labkit.embedded.node import node

        return getattr(node, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
