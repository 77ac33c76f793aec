"""Makes `meshwork/xds/envoy.binpb`: descriptors of the Envoy messages that Meshwork writes.

They come from `envoy-data-plane`, which has every xDS message as a dataclass; the classes carry the
field numbers and types. Running processes then need neither that package (1.8 s and 25 MB to import,
1.5 s more to first use) nor one that installs over other packages' protos. `--check` fails when the
file is stale.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import importlib
import sys
import typing
import warnings
from collections import defaultdict
from pathlib import Path

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)

OUT = Path(__file__).resolve().parent.parent / "meshwork/xds/envoy.binpb"
ROOTS = (
    "envoy.config.cluster.v3.Cluster",
    "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "envoy.config.listener.v3.Listener",
    "envoy.config.route.v3.FilterConfig",
    "envoy.config.route.v3.RouteConfiguration",
    "envoy.config.trace.v3.OpenTelemetryConfig",
    "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
    "envoy.extensions.filters.http.buffer.v3.Buffer",
    "envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
    "envoy.extensions.filters.http.cors.v3.Cors",
    "envoy.extensions.filters.http.cors.v3.CorsPolicy",
    "envoy.extensions.filters.http.grpc_field_extraction.v3.GrpcFieldExtractionConfig",
    "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
    "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb",
    "envoy.extensions.filters.http.lua.v3.Lua",
    "envoy.extensions.filters.http.lua.v3.LuaPerRoute",
    "envoy.extensions.filters.http.router.v3.Router",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin",
    "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
    "envoy.extensions.load_balancing_policies.load_aware_locality.v3.LoadAwareLocality",
    "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash",
    "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin",
    "envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality",
    "envoy.extensions.tracers.opentelemetry.resource_detectors.v3.StaticConfigResourceDetectorConfig",
    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
)
WELL_KNOWN = (any_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
Field = descriptor_pb2.FieldDescriptorProto

SCALARS = {
    "bool": Field.TYPE_BOOL,
    "bytes": Field.TYPE_BYTES,
    "double": Field.TYPE_DOUBLE,
    "float": Field.TYPE_FLOAT,
    "int32": Field.TYPE_INT32,
    "int64": Field.TYPE_INT64,
    "string": Field.TYPE_STRING,
    "uint32": Field.TYPE_UINT32,
    "uint64": Field.TYPE_UINT64,
}


def full_name(kind: type) -> str:
    """The name of a message, those nested in the original made siblings."""
    return f"{kind.__module__.removeprefix('envoy_data_plane.')}.{kind.__name__}"


def element(hint: typing.Any) -> typing.Any:
    """The class in `X | None`, `list[X]` or the value of `dict[str, X]`."""
    inner = [each for each in typing.get_args(hint) if each is not type(None)]
    return inner[-1] if inner else hint


class Builder:
    """Collects messages into one file: packages are nested messages there, so cycles do no harm."""

    def __init__(self) -> None:
        self.file = descriptor_pb2.FileDescriptorProto(name="envoy.proto", syntax="proto3")
        self.file.dependency.extend(module.DESCRIPTOR.name for module in WELL_KNOWN)
        self._scopes: dict[str, typing.Any] = {"": self.file}
        self._done: set[type] = set()

    def _scope(self, name: str) -> typing.Any:
        if name not in self._scopes:
            outer, _, last = name.rpartition(".")
            parent = self._scope(outer)
            nested = parent.message_type if parent is self.file else parent.nested_type
            self._scopes[name] = nested.add(name=last)
        return self._scopes[name]

    def add(self, kind: type) -> str:
        """Adds a message or enum and all that it holds; gives its name for references."""
        name = full_name(kind)
        if name.startswith("google.protobuf."):
            return f".{name}"
        if issubclass(kind, enum.Enum):
            # Values of two enums must not meet in one scope, so each enum has its own.
            if kind not in self._done:
                self._done.add(kind)
                declared = self._scope(name).enum_type.add(name="Value")
                declared.options.allow_alias = len(kind.__members__) > len(kind)
                for label, value in sorted(kind.__members__.items(), key=lambda pair: pair[1].value):
                    declared.value.add(name=label, number=value.value)
            return f".{name}.Value"
        if kind not in self._done:
            self._done.add(kind)
            self._fill(self._scope(name), name, kind)
        return f".{name}"

    def _fill(self, message: typing.Any, name: str, kind: type) -> None:
        hints = kind._type_hints()  # type: ignore[attr-defined]
        groups: dict[str, list[typing.Any]] = defaultdict(list)
        for each in dataclasses.fields(kind):
            meta = each.metadata["betterproto"]
            field = message.field.add(name=each.name, number=meta.number, label=Field.LABEL_OPTIONAL)
            hint = element(hints[each.name])
            if meta.proto_type == "map":
                entry = message.nested_type.add(
                    name="".join(part.title() for part in each.name.split("_")) + "Entry"
                )
                entry.options.map_entry = True
                for part, what, of in zip(("key", "value"), meta.map_meta, (str, hint), strict=True):
                    self._type(
                        entry.field.add(name=part, number=what.number, label=Field.LABEL_OPTIONAL), what, of
                    )
                field.label, field.type = Field.LABEL_REPEATED, Field.TYPE_MESSAGE
                field.type_name = f".{name}.{entry.name}"
                continue
            if meta.repeated:
                field.label = Field.LABEL_REPEATED
            self._type(field, meta, hint)
            if meta.group:
                groups[meta.group].append(field)
            elif meta.optional and field.type not in (Field.TYPE_MESSAGE,):
                field.proto3_optional = True
                groups[f"_{each.name}"].append(field)
        # Oneofs that proto3 makes for `optional` must come last.
        for group in sorted(groups, key=lambda group: group.startswith("_")):
            message.oneof_decl.add(name=group)
            for field in groups[group]:
                field.oneof_index = len(message.oneof_decl) - 1

    def _type(self, field: typing.Any, meta: typing.Any, hint: typing.Any) -> None:
        if meta.proto_type in SCALARS:
            field.type = SCALARS[meta.proto_type]
            return
        field.type = Field.TYPE_ENUM if meta.proto_type == "enum" else Field.TYPE_MESSAGE
        field.type_name = self.add(meta.unwrap() if meta.unwrap is not None else hint)


def build() -> bytes:
    """The descriptor set: the well-known types, then one file."""
    warnings.simplefilter("ignore")
    builder = Builder()
    for root in ROOTS:
        module, _, name = root.rpartition(".")
        builder.add(getattr(importlib.import_module(f"envoy_data_plane.{module}"), name))
    files = descriptor_pb2.FileDescriptorSet()
    for module in WELL_KNOWN:
        module.DESCRIPTOR.CopyToProto(files.file.add())
    files.file.append(builder.file)
    return files.SerializeToString(deterministic=True)


def main() -> None:
    """Writes the file, or with `--check` compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    made = build()
    if not parser.parse_args().check:
        OUT.write_bytes(made)
    elif not OUT.exists() or OUT.read_bytes() != made:
        sys.exit(f"stale, run `python tools/envoy_descriptors.py`: {OUT.name}")


if __name__ == "__main__":
    main()
