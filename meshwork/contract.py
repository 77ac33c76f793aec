"""The contract as data: which proto service each service of the mesh serves."""

from __future__ import annotations

import importlib

from google.protobuf.descriptor import ServiceDescriptor

SERVICES = ("vision", "nlp", "speech", "translation", "recommendation", "pipeline")


def descriptor(service: str) -> ServiceDescriptor:
    """The proto service of `service`, for example `meshwork.vision.v1.VisionService` for `vision`."""
    module = importlib.import_module(f"meshwork.{service}.v1.{service}_pb2")
    found: ServiceDescriptor = module.DESCRIPTOR.services_by_name[f"{service.capitalize()}Service"]
    return found
