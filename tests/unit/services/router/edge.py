"""Sends requests through the gateway's routes and its script as Envoy does, without Envoy."""

from __future__ import annotations

from collections.abc import Mapping

from lupa import luajit21

from meshwork.xds.messages import Values, decode
from meshwork.xds.routes import EXTRACTION_FILTER, MODEL_FILTER
from meshwork.xds.snapshot import ROUTES, Snapshot
from services.router.planner import GATEWAY

# What Envoy gives to a script, in Lua: `run` gives whether the script had the route chosen anew.
_HANDLE = """
function run(values, metadata)
  local headers, info, cleared = {}, {}, false
  function headers:get(name) return values[name] end
  function headers:add(name, value) assert(values[name] == nil) values[name] = value end
  function headers:remove(name) values[name] = nil end
  function info:streamInfo() return info end
  function info:dynamicMetadata() return info end
  function info:get(name) return metadata[name] end
  function info:headers() return headers end
  function info:clearRouteCache() cleared = true end
  envoy_on_request(info)
  return cleared
end
"""


def _matches(match: Values, headers: Mapping[str, str]) -> bool:
    path = headers[":path"].partition("?")[0]
    if "path" in match:
        at = path == match["path"]
    elif "path_separated_prefix" in match:
        below = match["path_separated_prefix"]
        at = path == below or path.startswith(f"{below}/")
    else:
        at = path.startswith(match["prefix"])
    if not at or ("grpc" in match and "content-type" not in headers):
        return False
    for header in match.get("headers", ()):
        value = headers.get(header["name"])
        if header.get("invert_match"):
            fits = value is None
        else:
            wanted = header["string_match"]
            fits = value is not None and (
                value == wanted["exact"] if "exact" in wanted else value.startswith(wanted["prefix"])
            )
        if not fits:
            return False
    return True


class Edge:
    """The gateway of a snapshot.

    Attributes:
        last: the route that the last request took first.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        table = decode("envoy.config.route.v3.RouteConfiguration", snapshot.resources(ROUTES)[GATEWAY].body)
        (host,) = table["virtual_hosts"]
        self.routes: list[Values] = host["routes"]
        self._lua = luajit21.LuaRuntime(encoding="utf-8")
        self._lua.execute(host["typed_per_filter_config"][MODEL_FILTER]["source_code"]["inline_string"])
        self._lua.execute(_HANDLE)

    def _route(self, headers: Mapping[str, str]) -> Values:
        return next(route for route in self.routes if _matches(route["match"], headers))

    def send(
        self, path: str, fields: Mapping[str, str] | None = None, sent: Mapping[str, str] | None = None
    ) -> tuple[str | int, dict[str, str]]:
        """The cluster that a request goes to, or the status that it is answered with; and its headers then.

        Args:
            fields: those of the request that are read; None for one that is no gRPC.
            sent: headers.
        """
        headers = {":path": path, **(sent or {})}
        if fields is not None:
            headers["content-type"] = "application/grpc"
        self.last = route = self._route(headers)
        if MODEL_FILTER not in route.get("typed_per_filter_config", {}):
            read = {name: [value] for name, value in (fields or {}).items()}
            metadata = self._lua.table_from({EXTRACTION_FILTER: read} if read else {}, recursive=True)
            values = self._lua.table_from(headers)
            cleared = self._lua.globals().run(values, metadata)
            headers = dict(values.items())
            if cleared:
                route = self._route(headers)
        if "direct_response" in route:
            return int(route["direct_response"]["status"]), headers
        action = route["route"]
        return action.get("cluster") or headers[action["cluster_header"]], headers
