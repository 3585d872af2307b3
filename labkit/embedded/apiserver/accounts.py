"""The service account of a pod has to be there before the pod.

As the admission plug-in ServiceAccount has it (plugin/pkg/admission/serviceaccount/admission.go), without the token.
"""

from __future__ import annotations

import asyncio
from typing import Any

from labkit.embedded.apiserver.failures import forbidden
from labkit.embedded.apiserver.storage import Storage

Object = dict[str, Any]

SERVICE_ACCOUNTS = "/serviceaccounts"
ACCOUNT_SECONDS = 1.5  # Kubernetes tries ten times, every 100 to 200 ms


async def check_account(storage: Storage, pod: Object, namespace: str) -> None:
    """Refuse a pod whose service account is missing; that of a namespace just made is waited for a moment."""
    name = (pod.get("spec") or {}).get("serviceAccountName") or "default"
    if storage.get(SERVICE_ACCOUNTS, namespace, name):
        return
    if name == "default":
        appeared = asyncio.Event()
        stop_listening = storage.listen(SERVICE_ACCOUNTS, lambda _: appeared.set())
        try:
            async with asyncio.timeout(ACCOUNT_SECONDS):
                while not storage.get(SERVICE_ACCOUNTS, namespace, name):
                    await appeared.wait()
                    appeared.clear()
                return
        except TimeoutError:
            pass
        finally:
            stop_listening()
    why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
    raise forbidden("pods", "", pod["metadata"].get("name", ""), why)
