"""How the gateway finds the cluster of a call: a script with the names of all models in it.

It comes with the gateway's routes, so that a model that comes or goes costs a line of a table, where
routes of its own were kilobytes that each Envoy reads anew. It sets, of what the request says::

    x-meshwork-model    the model as the request names it
    x-meshwork-cluster  the cluster of the model, where its calls are routed as its service's are
    meshwork-hash-...   the fields that `ring_hash` goes by

and drops what the caller had put there. A model whose calls are routed otherwise has routes of its own, by
the first of them.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import replace

from meshwork.names import MODEL_HEADER, header_value
from meshwork.policy import Policy
from meshwork.xds.messages import Values, packed
from meshwork.xds.routes import EXTRACTION_FILTER, RouteSpec
from services.router.contract import Service
from services.router.model_versions import ModelVersion, named
from services.router.policy import hash_fields, model_route

CLUSTER_HEADER = "x-meshwork-cluster"
"""Tells the gateway's routes which cluster the request's model has."""
_LUA = "envoy.extensions.filters.http.lua.v3"
_ANY = ModelVersion("", "", "")
REST_PREFIX = "/v2/models/"
"""How paths of REST begin that name a model."""

# %s: the headers of the model and of the cluster; where fields of requests are; a table of headers by the
# fields that go into one, of services by their full names; REST's prefix; a line for each name of a model:
# the name, its cluster or `-` if it has routes of its own, and 1 if it serves REST. A version may stand in a
# field of its own. What becomes a header is percent-encoded, as meshwork.names.header_value does.
_SCRIPT = """
local MODEL, CLUSTER, EXTRACTION, FIELDS, SERVICES, REST = "%s", "%s", "%s", {%s}, {%s}, "%s"
local clusters, by_rest = {}, {}
for name, cluster, rest in string.gmatch([[
%s]], "([^ \\n]*) (%%S+) (%%d)\\n") do
  clusters[name] = cluster
  if rest == "1" then by_rest[name] = cluster end
end
local function encode(c) return string.format("%%%%%%02X", string.byte(c)) end
local function encoded(value) return string.sub(string.gsub(value, "[^%%w%%-%%._~@/+]", encode), 1, 256) end
local function text(value)
  if value == nil then return "" end
  if type(value) == "table" then value = value[1] end
  if type(value) == "number" then value = tostring(value) end
  return type(value) == "string" and value or ""
end
-- The longest beginning of a path that names a model; no name is longer than what is looked at.
local function at_path(path)
  local left = string.sub(string.match(path, "^[^?]*"), #REST + 1, #REST + 512)
  while left do
    local model, version = string.match(left, "^(.+)/versions/([^/]+)$")
    local cluster = by_rest[model and model .. "@" .. version or left]
    if cluster and not string.find(left, "@", 1, true) then
      return cluster == "-" and cluster or "http/" .. cluster
    end
    left = string.match(left, "^(.*)/[^/]*$")
  end
end
function envoy_on_request(handle)
  local headers = handle:headers()
  local path, cluster = headers:get(":path"), nil
  local anew = headers:get(MODEL) or headers:get(CLUSTER)
  headers:remove(MODEL)
  headers:remove(CLUSTER)
  local found = handle:streamInfo():dynamicMetadata():get(EXTRACTION) or {}
  for name, header in pairs(FIELDS) do
    local value = text(found[name])
    headers:remove(header)
    if value ~= "" then headers:add(header, encoded(value)) end
  end
  local value = text(found.model) .. text(found.model_name) .. text(found.name)
  if value ~= "" then
    local version = text(found.model_version) .. text(found.version)
    if version ~= "" then value = value .. "@" .. version end
    local model = encoded(value)
    headers:add(MODEL, model)
    anew = model
    local service = SERVICES[string.match(path, "^/([^/]*)")]
    cluster = clusters[service and service .. "/" .. model or model]
  elseif string.sub(path, 1, #REST) == REST then
    cluster = at_path(path)
  end
  if cluster and cluster ~= "-" then headers:add(CLUSTER, cluster) end
  if anew or cluster then handle:clearRouteCache() end
end
"""


class Lookup:
    """The models of a mesh, as its gateways look them up.

    Args:
        versions: those that take calls.
        policies: of each.
        by_service: the policies of services, where that was said.

    Attributes:
        names: the models by all their names.
        services: of which there are models.
    """

    def __init__(
        self,
        versions: Collection[ModelVersion],
        policies: Mapping[ModelVersion, Policy],
        by_service: Mapping[str, Policy],
    ) -> None:
        self.names = named(versions)
        self._by_service = by_service
        self.services = sorted({each.service for each in versions})
        usual = {service: _settings(self._policy(service)) for service in self.services}
        self._ordinary = {
            each
            for each in versions
            if _settings(policies[each]) == usual[each.service] and header_value(each.cluster) == each.cluster
        }

    def _policy(self, service: str) -> Policy:
        return self._by_service.get(service, Policy())

    def unusual(self, names: Mapping[str, ModelVersion]) -> dict[str, ModelVersion]:
        """Those of `names` whose calls need routes of their own."""
        return {name: each for name, each in names.items() if each not in self._ordinary}

    def reads(self, service: str) -> bool:
        """Whether the calls of `service` are hashed by a field of theirs."""
        return service in hash_fields(self._by_service)

    def found(self, service: str, path: str, prefix: str = "") -> RouteSpec:
        """The route of read-only calls below `path` to the models of `service` that were looked up.

        Args:
            prefix: what stands before the names of its clusters.
        """
        begins = f"{prefix}{service}/"
        settings = _settings(self._policy(service))
        return replace(settings, name=service, path=path, header=CLUSTER_HEADER, value=begins, found=True)

    def script(self, by_http: Container[ModelVersion], services: Iterable[Service]) -> Values:
        """The configuration of the gateway's filter that looks models up.

        Args:
            by_http: the versions that serve REST.
            services: the contract.
        """
        headers = {
            field: header for each in hash_fields(self._by_service).values() for field, header in each.items()
        }
        full_names = {service.full_name: service.name for service in services}
        lines = [
            f"{header_value(name)} {each.cluster if each in self._ordinary else '-'} {int(each in by_http)}\n"
            for name, each in sorted(self.names.items())
        ]
        tables = (_pairs(headers), _pairs(full_names))
        code = _SCRIPT % (
            MODEL_HEADER,
            CLUSTER_HEADER,
            EXTRACTION_FILTER,
            *tables,
            REST_PREFIX,
            "".join(lines),
        )
        return packed(f"{_LUA}.LuaPerRoute", {"source_code": {"inline_string": code}})


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f'["{key}"] = "{value}"' for key, value in sorted(values.items()))


def _settings(policy: Policy) -> RouteSpec:
    """What the routes of a model have from its policy, leading nowhere yet."""
    return replace(model_route(_ANY, "", None, policy), cluster="")
