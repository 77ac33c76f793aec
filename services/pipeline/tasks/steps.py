"""The task of pipelines: a plan instead of a network.

It computes nothing itself, so no device is asked: `services.pipeline.execution` runs the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NoReturn, Self

from meshwork.serving.card import CARD_FILE, ModelDirectory
from meshwork.serving.task import Task
from services.pipeline.plan import Plan, read_plan


class Pipeline(Task[NoReturn, NoReturn, NoReturn, NoReturn]):
    """A plan that was checked against the contract."""

    methods: ClassVar[tuple[str, ...]] = ("Run",)

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads the plan.

        Raises:
            CardError: the card has none; names the step and the field.
        """
        return cls(read_plan(directory.card.parameters, str(directory.path / CARD_FILE)))

    def warm_up(self) -> None:
        """There is nothing to warm."""

    def preprocess(self, request: NoReturn) -> NoReturn:
        """Not used: steps take its place."""
        raise NotImplementedError("a Pipeline works in steps")

    def forward(self, batch: Sequence[NoReturn]) -> NoReturn:
        """Not used: steps take its place."""
        raise NotImplementedError("a Pipeline works in steps")

    def postprocess(self, prepared: NoReturn, raw: NoReturn) -> NoReturn:
        """Not used: steps take its place."""
        raise NotImplementedError("a Pipeline works in steps")
