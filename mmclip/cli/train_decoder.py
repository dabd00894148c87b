"""`mmclip train-decoder`."""

from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from mmclip.cli.options import Config, Data, Device, Force, Name, Seed, Vectors, Where

if TYPE_CHECKING:
    from mmclip.artifacts import Artifact

# Settings of steps, which a decoder that is solved has not.
STEPS = ("loss", "optimiser", "epochs", "batch", "learning_rate", "warm_up", "weight_decay",
         "jitter", "drop_view", "error_floor")  # fmt: skip


def command(
    start: Annotated[
        str | None, Option("--from", help="View that was observed; several by commas are fused.")
    ] = None,
    to: Annotated[str | None, Option("--to", help="View to generate.")] = None,
    decoder: Annotated[
        str | None,
        Option(
            help="kernel-ridge, flow, gaussian, schwarz, mlp, metadata, lightcurve. "
            "[default: by the views]"
        ),
    ] = None,
    loss: Annotated[
        str | None, Option(help="own, mse or ivar (by inverse variance). [default: own]")
    ] = None,
    preset: Annotated[str, Option(help="default, or schwarz2024: their schedule.")] = "default",
    epochs: Annotated[int | None, Option(min=1, help="Passes over the stars.")] = None,
    batch: Annotated[int | None, Option(min=2, help="Stars a step.")] = None,
    learning_rate: Annotated[float | None, Option(help="Peak learning rate.")] = None,
    vectors: Vectors = None,
    data: Data = None,
    device: Device = None,
    seed: Seed = None,
    config: Config = None,
    name: Name = None,
    force: Force = False,
    workspace: Where = None,
) -> "Artifact":
    """Train a decoder on frozen vectors, calibrate it, and compare it with the baselines."""
    import dataclasses

    from mmclip import papers, plugins
    from mmclip.cli import inputs, output
    from mmclip.cli.progress import progress
    from mmclip.config import resolve
    from mmclip.errors import UsageError
    from mmclip.tasks import generate
    from mmclip.tasks.generate.choice import views
    from mmclip.tasks.generate.decoder import (
        DecodeConfig,
        default_decoder,
        open_decoder,
        train,
    )

    below = {} if preset == "default" else papers.settings(preset, "decode")
    space, store, dataset, run = inputs.with_run(workspace, vectors, data)
    names, target = views(store, start, to)
    flags: dict[str, Any] = {
        "decoder": decoder, "loss": loss, "epochs": epochs, "batch": batch, "device": device,
        "learning_rate": learning_rate, "seed": seed, "start": names, "to": target,
    }  # fmt: skip
    given = {k: v for k, v in flags.items() if v is not None}
    settings = resolve(DecodeConfig, "train-decoder", config, given, below)
    stepped = [n for n in STEPS if n in given or getattr(settings, n) != getattr(DecodeConfig, n)]
    if not settings.decoder:
        read = () if stepped else [dataset.modality(n) for n in names]
        settings = dataclasses.replace(
            settings, decoder=default_decoder(dataset.modality(target), read)
        )
    elif plugins.load("decoders", settings.decoder, "DECODER").solve is not None and stepped:
        raise UsageError(
            f"{settings.decoder} is solved, not trained by steps: it has no {stepped[0]}",
            f"mmclip train-decoder --decoder {settings.decoder}, without it",
        )
    output.modelled({n: store.artifact.manifest.provenance[n] for n in (*names, target)})
    called = name or f"{store.artifact.path.name}-{'+'.join(names)}-{target}"
    parents = [a.reference for a in (store.artifact, run.artifact, dataset.artifact)]
    surveys = dataset.artifact.manifest.surveys
    place = space.place("decoder", called)
    pairs = generate.pairs(store, dataset, names, target, settings.decoder)
    with progress() as report:
        artifact = train(pairs, settings, place, parents, surveys, report, force)
    made = open_decoder(artifact)
    size = f"{artifact.manifest.notes['parameters']:,} parameters"
    if made.decoder.solve is not None:
        size = f"solved for {artifact.manifest.rows['train']:,} training stars"
    output.say(
        f"{artifact.path}: {settings.decoder}, {size}, sigma calibrated on "
        f"{made.calibration.stars} stars that it did not learn from"
    )
    scores = generate.compare(store, dataset, run, names, target, trained=made)
    output.table(scores, scores.question)
    output.say(generate.verdict(scores))
    output.say(f"next: mmclip generate --from {','.join(names)} --to {target} --query-id ID")
    return artifact
