"""From a snapshot of the cluster to the Envoy configuration of each sidecar. Pure: dictionaries in and out.

Nothing here opens a socket or a file, starts a process or knows asyncio, so every rule is tested as a table.
"""
