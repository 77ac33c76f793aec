"""What a model's tensors are in the protocol's words, and whether a request's fit them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meshwork.errors import InvalidArgument
from meshwork.serving.engines.engine import Array, Engine, TensorSpec
from meshwork.serving.oip.datatypes import BY_NUMPY, DATATYPES, Datatype, Reader, names


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor that a model takes or gives; shapes have -1 where any length will do."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, spec: TensorSpec) -> Tensor:
        """The tensor that an engine describes."""
        shape = tuple(-1 if axis is None else axis for axis in spec.shape)
        return cls(spec.name, BY_NUMPY[spec.dtype], shape)

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether an array of `shape` can be it."""
        return len(shape) == len(self.shape) and all(
            length > 0 and axis in (-1, length) for length, axis in zip(shape, self.shape, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Given:
    """A tensor as a request describes it, before its values are read."""

    field: str  # its path in the request, for example `inputs[0]`
    name: str
    datatype: str
    shape: tuple[int, ...]
    read: Reader


class Signature:
    """The tensors of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.platform = engine.name
        self.inputs = {spec.name: Tensor.of(spec) for spec in engine.inputs}
        self.outputs = {spec.name: Tensor.of(spec) for spec in engine.outputs}
        # Whether requests are joined along axis 0.
        self.batched = all(tensor.shape[:1] == (-1,) for tensor in self.inputs.values())

    def read(self, given: Iterable[Given]) -> dict[str, Array]:
        """The arrays of a request, by name: all that the model takes, of as many rows each.

        Raises:
            InvalidArgument: one is missing, unknown, or not as the model has it.
        """
        arrays: dict[str, Array] = {}
        rows: tuple[int, ...] = ()
        for each in given:
            tensor = self._checked(each)
            if each.name in arrays:
                raise InvalidArgument(f"{each.name!r} stands twice", field=f"{each.field}.name")
            arrays[each.name] = each.read(tensor.datatype, each.shape)
            rows = rows or each.shape[:1]
            if self.batched and each.shape[:1] != rows:
                raise InvalidArgument(
                    f"{each.name!r} has {each.shape[0]} rows, other inputs {rows[0]}",
                    field=f"{each.field}.shape",
                )
        if len(arrays) < len(self.inputs):
            missing = ", ".join(name for name in self.inputs if name not in arrays)
            raise InvalidArgument(f"lacks {missing}; the model takes {self._takes()}", field="inputs")
        return arrays

    def _checked(self, given: Given) -> Tensor:
        tensor = self.inputs.get(given.name)
        if tensor is None:
            raise InvalidArgument(
                f"the model takes no {given.name!r}; it takes {self._takes()}", field=f"{given.field}.name"
            )
        if given.datatype != tensor.datatype.name:
            known = "" if given.datatype in DATATYPES else f" (the datatypes are {names()})"
            raise InvalidArgument(
                f"{given.name!r} should be {tensor.datatype.name}, not {given.datatype!r}{known}",
                field=f"{given.field}.datatype",
            )
        if not tensor.fits(given.shape):
            raise InvalidArgument(
                f"{given.name!r} should be of shape {list(tensor.shape)}, not {list(given.shape)}",
                field=f"{given.field}.shape",
            )
        return tensor

    def wanted(self, requested: Sequence[str]) -> Sequence[str]:
        """The outputs to answer with, in order: those requested, or all.

        Raises:
            InvalidArgument: one is unknown.
        """
        for index, name in enumerate(requested):
            if name not in self.outputs:
                raise InvalidArgument(
                    f"the model gives no {name!r}; it gives {', '.join(self.outputs)}",
                    field=f"outputs[{index}].name",
                )
        return requested or tuple(self.outputs)

    def _takes(self) -> str:
        return ", ".join(
            f"{tensor.name} ({tensor.datatype.name} {list(tensor.shape)})" for tensor in self.inputs.values()
        )
