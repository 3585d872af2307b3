"""The controllers: what turns a Deployment into ReplicaSets, those into pods, and pods into endpoints.

They meet the API server only over the API, as clients like any other.
"""

from labkit.embedded.controllers.manager import Controllers

__all__ = ["Controllers"]
