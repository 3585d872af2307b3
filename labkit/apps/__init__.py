"""The applications of the lessons: small web programs that know nothing of the mesh, as real ones do not.

They use the standard library alone, and of labkit only this package, because they also run unchanged in real
containers (manifests/apps/chat/Dockerfile) and because dozens of them may run at once on a laptop.
"""
