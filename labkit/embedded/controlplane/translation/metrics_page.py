"""The page of metrics that a proxy shows to whoever scrapes it, on 15090 and 15020. Pure; standard library only.

Envoy's own page needs four changes, which a small Lua filter makes on the way out:

1. Envoy puts `envoy_` before every name. Istio's metrics have none.
2. The labels of Istio's metrics stand in one, to be short (see `standard_metrics`).
3. A label that could not be known is empty. Istio says `unknown`.
4. The namespace of a TCP client stands in its certificate alone; Istio reads it from there as well.

On 15020 Istio's agent adds the application's own metrics, where the pod's annotations name them
(https://istio.io/latest/docs/ops/integrations/prometheus/#option-1-metrics-merging). So does this filter; when the
application does not answer, the page is without them.
"""

from __future__ import annotations

from labkit.embedded.envoy_messages import TYPE, Config

LUA = "envoy.filters.http.lua"

HTTP_LABELS = (
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
)
"""The labels of Istio's metrics of requests, https://istio.io/latest/docs/reference/config/metrics/#labels."""

TCP_LABELS = tuple(one for one in HTTP_LABELS if one not in ("response_code", "grpc_response_status"))
ALL_LABELS, SEPARATOR = "istio", ";"
"""The one label in which Envoy keeps all of them, in the order above."""

APP_METRICS_CLUSTER = "app-metrics"
APP_TIMEOUT_MS = 3000

_SCRIPT = r"""
local names = {[%(http_count)d] = {%(http)s}, [%(tcp_count)d] = {%(tcp)s}}

local function labels(joined)
  local values = {}
  for value in (joined .. "%(separator)s"):gmatch("([^%(separator)s]*)%(separator)s") do values[#values + 1] = value end
  local known = names[#values]
  if known == nil then return nil end
  for index, name in ipairs(known) do values[index] = name .. '="' .. values[index] .. '"' end
  return "{" .. table.concat(values, ",")
end

function envoy_on_request(handle)
  local path = handle:headers():get(":path")
  handle:streamInfo():dynamicMetadata():set("page", "wanted", path == nil or path:sub(1, %(length)d) == "%(only)s")
end

function envoy_on_response(handle)
  local said = handle:streamInfo():dynamicMetadata():get("page")
  if said == nil or not said["wanted"] or handle:headers():get(":status") ~= "200" then return end
  local body = handle:body()
  if body == nil then return end
  local text = body:getBytes(0, body:length())
  text = text:gsub("envoy_istio_", "istio_")
  local known = {}
  text = text:gsub('{%(all)s="([^"]*)"', function(joined)
    known[joined] = known[joined] or labels(joined)
    return known[joined]
  end)
  text = text:gsub('(source_[a-z_]+)=""', '%%1="unknown"'):gsub('(destination_[a-z_]+)=""', '%%1="unknown"')
  local from = '(source_workload_namespace=)"unknown"(,source_principal="spiffe://[^/"]*/ns/)([^/"]*)'
  text = text:gsub(from, '%%1"%%3"%%2%%3')
  %(merge)s
  handle:headers():remove("content-length")
  handle:body():setBytes(text)
end
"""

_MERGE = """
  local request = {[":method"] = "GET", [":path"] = "%(path)s", [":authority"] = "localhost"}
  local headers, page = handle:httpCall("%(cluster)s", request, "", %(timeout)d)
  if headers[":status"] == "200" and page then text = text .. page end
"""


def page_filter(app_path: str = "", *, only: str = "") -> Config:
    """The filter before the route to Envoy's own page, the path `only` of several.

    `app_path` is where the application shows its metrics.
    """
    merge = ""
    if app_path:
        path = app_path.replace("\\", "").replace('"', "")
        merge = _MERGE % {"path": path, "cluster": APP_METRICS_CLUSTER, "timeout": APP_TIMEOUT_MS}
    told = {"merge": merge, "only": only, "length": len(only), "all": ALL_LABELS, "separator": SEPARATOR}
    for kind, names in (("http", HTTP_LABELS), ("tcp", TCP_LABELS)):
        told |= {kind: ", ".join(f'"{name}"' for name in names), f"{kind}_count": len(names)}
    source = {"inline_string": _SCRIPT % told}
    return {
        "name": LUA,
        "typed_config": {"@type": f"{TYPE}envoy.extensions.filters.http.lua.v3.Lua", "default_source_code": source},
    }
