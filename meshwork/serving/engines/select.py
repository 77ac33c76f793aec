"""Which engine runs a network: the one that its card names, or with `engine: auto` the fastest.

Whichever it is, its outputs are held to those of torch in float32 within the card's tolerance when
the model loads. What auto found is kept by the hash of the network and of the machine; an engine that
is missing or breaks is reported as refused, and if all are, torch in float32 runs the model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.engines.cache import digest, forget, kept, path_of
from meshwork.serving.engines.engine import (
    DEFAULT_TOLERANCE,
    Arrays,
    Engine,
    EngineTrial,
    TensorSpec,
    Verdict,
)
from meshwork.serving.engines.identity import machine
from meshwork.serving.engines.trial import (
    BATCH,
    Bench,
    batch_of,
    example_of,
    read_verdict,
    reason,
    write_verdict,
)
from meshwork.serving.threads import contained

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

Build = Callable[[], Engine]
AUTO = "auto"
_VERDICT = "verdict.json"


def engine_for(
    module: torch.nn.Module,
    *,
    directory: ModelDirectory,
    device: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    example: Arrays,
    native: str = "torch",
) -> Engine:
    """The engine that the model's card asks for, ready on `device`.

    Args:
        module: the engine's from then on; keep no reference, so that its memory is given back where
            another engine takes its place. `module(**inputs)` gives a tensor, a tuple or a mapping.
        directory: its card says `engine`, `precision`, `tolerance` and `providers`.
        device: `cpu`, `cuda:0`, ...
        inputs: what the module takes, by keyword; None in a shape where any size goes.
        outputs: what it gives: matched by name if it gives a mapping with these names, else in order.
        example: one small batch of typical inputs.
        native: the name of the engine that runs the module as it is.

    Raises:
        CardError: the engine is unknown or not installed, cannot run this network, or is not within
            the tolerance.
    """
    from meshwork.serving.engines.onnx_export import Export
    from meshwork.serving.engines.onnx_runtime import OnnxRuntimeEngine
    from meshwork.serving.engines.open_vino import OpenVinoEngine
    from meshwork.serving.engines.torch_compile import TorchCompileEngine
    from meshwork.serving.engines.torch_eager import TorchEngine

    card = directory.card
    eager = TorchEngine(module, device=device, inputs=inputs, outputs=outputs, example=example, name=native)
    if card.engine == "torch" and card.precision == "float32":
        return eager
    batches = tuple(batch_of(example, inputs, size) for size in (1, BATCH))
    bench = Bench(
        batches=batches,
        reference=tuple(eager.run(batch) for batch in batches),
        tolerance=_tolerance(directory),
        on_cpu=device.startswith("cpu") and not card.providers,
    )
    export = Export(eager, batch_of(example, inputs, _export_batch(inputs)))
    specs = {"inputs": inputs, "outputs": outputs}

    def exported(make: Callable[[Path], Engine]) -> Engine:
        """An engine of the exported file; of a fresh one if that in the cache turns out to be stale."""
        was_kept = export.is_kept()
        engine = make(export.file())
        if was_kept and not bench.error(engine) <= bench.tolerance:
            engine.close()
            export.forget()
            engine = make(export.file())
        return engine

    builds: dict[str, Build] = {
        native: lambda: eager.at(card.precision),
        "torch-compile": lambda: TorchCompileEngine(eager.at(card.precision), *batches),
        "onnxruntime": lambda: exported(
            lambda file: OnnxRuntimeEngine(file, device=device, providers=card.providers, **specs)
        ),
        "openvino": lambda: exported(
            lambda file: OpenVinoEngine(
                file, device=device, precision=card.precision, providers=card.providers, **specs
            )
        ),
    }
    engine = _selected(directory, builds, bench, lambda: export.key, device, lambda: eager.at("float32"))
    eager.close()  # what the selected engine shares with it stays
    return engine


def engine_of_onnx(directory: ModelDirectory, file: Path, device: str) -> Engine:
    """The engine that the card asks for, of an ONNX file; onnxruntime if it asks for none.

    `engine: auto` holds each engine to onnxruntime on the CPU.

    Raises:
        CardError: as `engine_for`.
    """
    from meshwork.serving.engines.identity import file_hash
    from meshwork.serving.engines.onnx_runtime import OnnxRuntimeEngine
    from meshwork.serving.engines.open_vino import OpenVinoEngine

    card = directory.card
    builds: dict[str, Build] = {
        "onnxruntime": lambda: OnnxRuntimeEngine(file, device=device, providers=card.providers),
        "openvino": lambda: OpenVinoEngine(
            file, device=device, precision=card.precision, providers=card.providers
        ),
    }
    if card.engine in ("torch", "onnxruntime"):
        return builds["onnxruntime"]()
    tolerance = _tolerance(directory)
    try:
        plain = OnnxRuntimeEngine(file, device="cpu")
        example = example_of(plain.inputs, card.parameters.get("example", {}))
        batches = tuple(batch_of(example, plain.inputs, size) for size in (1, BATCH))
        bench = Bench(
            batches=batches,
            reference=tuple(contained(plain.run, batch) for batch in batches),
            tolerance=tolerance,
            on_cpu=device.startswith("cpu") and not card.providers,
        )
    except Exception as error:
        return _untried(directory, builds, reason(error))
    engine = _selected(directory, builds, bench, lambda: file_hash(file), device, lambda: plain)
    if engine is not plain:
        plain.close()
    return engine


def _untried(directory: ModelDirectory, builds: Mapping[str, Build], why: str) -> Engine:
    """The engine that the card names, or the first that takes the file, where nothing can be tried.

    Args:
        why: what the reference broke with; `parameters: {example: {NAME: [sizes]}}` may mend it.
    """
    if directory.card.engine in builds:
        return builds[directory.card.engine]()
    trials = []
    for name, build in builds.items():
        try:
            engine = contained(build)
        except Exception as error:
            trials.append(EngineTrial(engine=name, refused=reason(error)))
            continue
        trials.append(EngineTrial(engine=engine.name, refused=f"taken untried, since the reference: {why}"))
        engine.verdict = Verdict(engine=engine.name, trials=tuple(trials))
        return engine
    raise CardError(f"{directory.source}: no engine takes it: {'; '.join(trial.refused for trial in trials)}")


def _tolerance(directory: ModelDirectory) -> float:
    card = directory.card
    if card.precision not in DEFAULT_TOLERANCE:
        raise CardError(
            f"{directory.source}: precision: should be one of {', '.join(DEFAULT_TOLERANCE)}, "
            f"not {card.precision!r}"
        )
    return card.tolerance or DEFAULT_TOLERANCE[card.precision]


def _widened(module: torch.nn.Module) -> torch.nn.Module:
    """The module in float32, which is what engines are held to, whatever it was read in."""
    if any(str(each.dtype) in ("torch.bfloat16", "torch.float16") for each in module.parameters()):
        module.float()
    return module


def _export_batch(inputs: tuple[TensorSpec, ...]) -> int:
    """A batch size that no other axis has: equal sizes are taken for one and the same."""
    taken = {size for spec in inputs for size in spec.shape}
    return next(size for size in range(2, 1000) if size not in taken)


def _selected(
    directory: ModelDirectory,
    builds: Mapping[str, Build],
    bench: Bench,
    identity: Callable[[], str],
    device: str,
    fallback: Build,
) -> Engine:
    """The engine that the card names, or the fastest of `builds`.

    Args:
        directory: the model's.
        builds: how to make each engine, by name; "torch" means the first.
        bench: what they are tried on.
        identity: the network's hash.
        device: where it is to run.
        fallback: makes the reference, should auto refuse all.
    """
    card = directory.card
    if card.engine == AUTO:
        tolerance = f"{bench.tolerance}"
        key = digest(identity(), device, machine(device), card.precision, tolerance, *card.providers)
        return _known(builds, bench, key) or _fastest(builds, bench, key, fallback)
    name = next(iter(builds)) if card.engine == "torch" else card.engine
    if name not in builds:
        known = ", ".join(dict.fromkeys(("torch", *builds, AUTO)))
        raise CardError(f"{directory.source}: engine: there is none named {name!r}; there are: {known}")
    try:
        return bench.checked(builds[name])[0]
    except Exception as error:
        raise CardError(f"{directory.source}: engine {name}: {reason(error)}") from error


def _known(builds: Mapping[str, Build], bench: Bench, key: str) -> Engine | None:
    """The engine that was chosen before, if it was and still does."""
    verdict = read_verdict(path_of("verdicts", key, _VERDICT))
    if verdict is None:
        return None
    try:
        engine, _ = bench.checked(builds[verdict.engine.partition(":")[0]])
    except Exception as error:
        log.warning("engine %s was chosen before and now fails: %s", verdict.engine, reason(error))
        forget("verdicts", key)
        return None
    engine.verdict = verdict
    return engine


def _fastest(builds: Mapping[str, Build], bench: Bench, key: str, fallback: Build) -> Engine:
    """The fastest of those that are within the tolerance; the verdict is kept."""
    found, trials = bench.compare(builds)
    best = found or fallback()
    verdict = best.verdict = Verdict(engine=best.name, trials=trials)
    try:
        kept("verdicts", key, _VERDICT, lambda file: write_verdict(verdict, file))
    except OSError as error:
        log.warning("cannot keep the verdict on engines: %s", error)
    return best
