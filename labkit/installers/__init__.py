"""How a mesh gets onto a cluster. Speaks to the cluster through the seam and knows nothing of how it is made."""

from labkit.installers.embedded import install, uninstall

__all__ = ["install", "uninstall"]
