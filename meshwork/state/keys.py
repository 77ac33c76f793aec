"""Every key and channel name that Meshwork uses in Redis."""

from __future__ import annotations

from dataclasses import dataclass


def escape(part: str) -> str:
    """`part` without a colon or a closing brace, one to one, so that text of users can't collide with
    another key or end a hash tag."""
    return part.replace("%", "%25").replace(":", "%3A").replace("}", "%7D")


@dataclass(frozen=True, kw_only=True, slots=True)
class Keys:
    """Names of one mesh, all below `meshwork:{MESH}:`.

    The braces are a hash tag: in a cluster all keys of a mesh lie in one slot, so that a script or a
    transaction may touch any of them.

    Attributes:
        mesh: name of the mesh; meshes of different names share a Redis without meeting.
    """

    mesh: str = "default"

    def name(self, *parts: str) -> str:
        """The key of `parts`; different parts give different keys, whatever characters they hold."""
        if not parts:
            raise ValueError("a key needs at least one part")
        tag = escape(self.mesh) or "%"  # an empty tag would be none
        return ":".join(("meshwork", f"{{{tag}}}", *map(escape, parts)))

    @property
    def leases(self) -> str:
        """Hash: replica name -> its lease, a `meshwork.router.v1.Replica` as JSON."""
        return self.name("leases")

    @property
    def lease_expiry(self) -> str:
        """Sorted set: replica name by the time in ms (Redis's clock) at which its lease lapses."""
        return self.name("lease_expiry")

    @property
    def lease_epoch(self) -> str:
        """String: made with the first lease; another value means that Redis lost what it knew."""
        return self.name("lease_epoch")

    @property
    def lease_serial(self) -> str:
        """String: the number of changes that leases saw in this epoch."""
        return self.name("lease_serial")

    @property
    def lease_log(self) -> str:
        """Sorted set: replica name by the number of the last change of its lease, the latest ones only."""
        return self.name("lease_log")

    @property
    def lease_pulse(self) -> str:
        """String: the time in ms (Redis's clock) at which leases were last read."""
        return self.name("lease_pulse")

    @property
    def lease_changes(self) -> str:
        """Channel: the name of each replica whose lease came, changed or went."""
        return self.name("lease_changes")

    @property
    def lease_renewed(self) -> str:
        """Sorted set: replica name by the time in ms (Redis's clock) at which it last renewed its lease."""
        return self.name("lease_renewed")

    @property
    def leader(self) -> str:
        """String: the grant of the router that leads, `TOKEN:NONCE NAME`; lapses unless renewed."""
        return self.name("leader")

    @property
    def leader_token(self) -> str:
        """String: the last fencing token that was given out."""
        return self.name("leader_token")

    @property
    def routers(self) -> str:
        """Hash: router name -> what it says of itself, as JSON."""
        return self.name("routers")

    @property
    def router_expiry(self) -> str:
        """Sorted set: router name by the time in ms (Redis's clock) at which it counts as gone."""
        return self.name("router_expiry")

    @property
    def ejections(self) -> str:
        """Hash: replica name -> why it is kept from traffic, a `meshwork.router.v1.Ejection` as JSON."""
        return self.name("ejections")

    @property
    def ejection_changes(self) -> str:
        """Channel: says something whenever the ejections changed."""
        return self.name("ejection_changes")

    @property
    def events(self) -> str:
        """Stream: what happened, each a `meshwork.router.v1.Event` as JSON in the field `event`."""
        return self.name("events")

    @property
    def reports(self) -> str:
        """Hash: replica name -> what it counted in its last few seconds, as JSON."""
        return self.name("reports")

    @property
    def desired(self) -> str:
        """Hash: service name -> number of replicas asked for."""
        return self.name("desired")

    @property
    def desired_changes(self) -> str:
        """Channel: the name of each service whose desired number changed."""
        return self.name("desired_changes")

    @property
    def wishes(self) -> str:
        """Hash: SERVICE/NAME@VERSION -> what was last asked of that model, as JSON."""
        return self.name("wishes")

    @property
    def wish_order(self) -> str:
        """String: the number of the last wish."""
        return self.name("wish_order")

    @property
    def wish_changes(self) -> str:
        """Channel: the key of each wish that was made."""
        return self.name("wish_changes")

    @property
    def traces(self) -> str:
        """Sorted set: id of each ordinary trace by its begin in us since 1970."""
        return self.name("traces")

    @property
    def traces_kept(self) -> str:
        """Sorted set: as `traces`, of failed and slow ones, which are kept longer."""
        return self.name("traces_kept")

    @property
    def trace_summaries(self) -> str:
        """Hash: id of a trace -> what is known of it in short, as JSON."""
        return self.name("trace_summaries")

    @property
    def trace_requests(self) -> str:
        """Hash: a gateway's `x-request-id` -> the id of its trace."""
        return self.name("trace_requests")

    @property
    def trace_bytes(self) -> str:
        """Hash: bytes of the `plain` and of the `kept` traces."""
        return self.name("trace_bytes")

    def trace(self, trace_id: str) -> str:
        """List: the spans of a trace as they came, each entry an OTLP `TracesData` in base64."""
        return self.name("trace", trace_id)

    @property
    def log_levels(self) -> str:
        """Hash: name of a process or service -> the level at which it is to log."""
        return self.name("log_levels")

    @property
    def log_level_changes(self) -> str:
        """Channel: the name of each process or service whose level changed."""
        return self.name("log_level_changes")

    def drained(self, process: str) -> str:
        """Set: routers that have no client whose snapshot holds the draining `process` of a replica."""
        return self.name("drained", process)

    def drain_order(self, process: str) -> str:
        """String: there while the `process` of a replica is asked to drain."""
        return self.name("drain_order", process)

    def drain_orders(self, process: str) -> str:
        """Channel: something whenever the `process` of a replica is asked to drain."""
        return self.name("drain_orders", process)

    def restart(self, service: str) -> str:
        """String: the last rolling restart of `service` that was asked for, as JSON."""
        return self.name("restart", service)

    def restart_steps(self, restart: str) -> str:
        """Hash: replica name -> how far its replacement is in the rolling restart of that id, as JSON."""
        return self.name("restart_steps", restart)

    def restart_lock(self, service: str) -> str:
        """String: held by the supervisor that replaces a replica of `service`."""
        return self.name("restart_lock", service)

    @property
    def restart_orders(self) -> str:
        """Channel: the name of each service that is to be restarted."""
        return self.name("restart_orders")
