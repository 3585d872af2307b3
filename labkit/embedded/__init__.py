"""The embedded cluster: a Kubernetes API, a node and a mesh on one machine, without privileges.

Nothing outside this package imports it, except `labkit.cluster.opening` and `labkit.installers.embedded`, lazily.
"""
