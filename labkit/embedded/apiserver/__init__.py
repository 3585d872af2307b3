"""The API server of the embedded cluster: Kubernetes REST as documented, for kubectl and every other client.

Objects, watch, discovery, OpenAPI, admission, exec and logs. It knows no controller, no node and no mesh: those are
clients like any other. It imports nothing of `kubernetes`, whose models cost 50 MB, but reads their source text.
"""

from labkit.embedded.apiserver.server import ApiServer

__all__ = ["ApiServer"]
