"""What ProxyConfig says of the proxies that are started from now on: worker threads and environment.

https://istio.io/latest/docs/reference/config/networking/proxy-config/
A running proxy is not changed: the settings are read when a pod is injected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.policy.configs import Meta, read_meta
from labkit.policy.selection import selector_labels
from labkit.policy.workload import Workload, labels_match


@dataclass(frozen=True)
class ProxyConfig:
    """One parsed ProxyConfig. `concurrency` is None where it says nothing; 0 means one thread per core."""

    meta: Meta
    selector: Mapping[str, str] = field(default_factory=dict)
    concurrency: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    image_type: str = ""


@dataclass(frozen=True)
class ProxySettings:
    """What one new proxy is started with."""

    concurrency: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    hold_application: bool = False

    def over(self, wider: ProxySettings) -> ProxySettings:
        """These settings, with those of a wider scope where they say nothing."""
        return ProxySettings(
            concurrency=wider.concurrency if self.concurrency is None else self.concurrency,
            environment={**wider.environment, **self.environment},
            hold_application=self.hold_application or wider.hold_application,
        )


def parse_proxy_config(obj: Mapping[str, Any]) -> ProxyConfig:
    """Read a ProxyConfig."""
    spec = obj.get("spec") or {}
    concurrency = spec.get("concurrency")
    return ProxyConfig(
        meta=read_meta(obj, kind="ProxyConfig"),
        selector=selector_labels(spec),
        concurrency=None if concurrency is None else int(concurrency),
        environment={key: str(value) for key, value in (spec.get("environmentVariables") or {}).items()},
        image_type=str((spec.get("image") or {}).get("imageType") or ""),
    )


def read_proxy_settings(default_config: Mapping[str, Any]) -> ProxySettings:
    """The settings in `meshConfig.defaultConfig`, or in the annotation `proxy.istio.io/config`."""
    concurrency = default_config.get("concurrency")
    return ProxySettings(
        concurrency=None if concurrency is None else int(concurrency),
        environment={key: str(value) for key, value in (default_config.get("proxyMetadata") or {}).items()},
        hold_application=bool(default_config.get("holdApplicationUntilProxyStarts")),
    )


def proxy_settings(
    configs: Iterable[ProxyConfig],
    workload: Workload,
    root_namespace: str,
    *,
    mesh: ProxySettings,
    annotation: ProxySettings | None = None,
) -> ProxySettings:
    """What a new proxy of `workload` is started with. From wide to narrow, each overriding the one before:

    1. `meshConfig.defaultConfig`;
    2. the oldest ProxyConfig without a selector in the root namespace;
    3. the oldest without a selector in the workload's namespace;
    4. the oldest of that namespace that selects the workload (in the root namespace a selector is ignored);
    5. the annotation `proxy.istio.io/config` of the pod.

    Each level counts as a whole only where it speaks; environments are merged.
    """
    # pilot/pkg/model/proxy_config.go EffectiveProxyConfig
    known = sorted(configs, key=lambda one: one.meta.age_order)
    own = [one for one in known if one.meta.namespace == workload.namespace]
    levels = (
        next((one for one in known if one.meta.namespace == root_namespace and not one.selector), None),
        next((one for one in own if not one.selector and one.meta.namespace != root_namespace), None),
        next((one for one in own if one.selector and labels_match(one.selector, workload.labels)), None),
    )
    result = mesh
    for level in levels:
        if level:
            result = ProxySettings(level.concurrency, level.environment).over(result)
    return annotation.over(result) if annotation else result
