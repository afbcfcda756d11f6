"""Commands about 2D operators: list them, check one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from jobs.options import AsJson, License, Reader, Settings
from jobs.output import print_json

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def operators(context: typer.Context, license_: License = None, as_json: AsJson = False) -> None:
    """List the 2D operators that are built in or registered by installed packages.

    With --license commercial, those whose weights allow it, and those where it depends on the weights that you name.

    Example: lift3d operators --license commercial
    """
    if context.invoked_subcommand is not None:
        return
    from pipeline.operators import list_operators

    found = [info for info in list_operators() if license_ != "commercial" or info.commercial in ("yes", "depends")]
    if as_json:
        print_json([{**asdict(info), "commercial": info.commercial} for info in found])
        return
    for info in found:
        licence = f"{info.licence} (commercial use: {info.commercial})"
        print(f"{info.name}\n    {info.summary}\n    kind: {info.kind}; needs: {info.needs}; licence: {licence}")


@app.command()
def check(
    spec: Annotated[str, typer.Argument(help="Operator: name, name:argument or package.module:Class.")],
    settings: Settings = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Another kwarg: where results change, the fingerprint must too."),
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", metavar="SOURCE", help="Try it on a dataset's images; drawn ones otherwise.")
    ] = None,
    reader: Reader = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where it computes.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Try an operator out against its contract; exit code 1 where it breaks it.

    Shapes, types and ranges, the same result twice, alone and in any batch, built once more and in another process, its
    input left alone, fingerprints that tell settings apart, and a GPU where there is one.

    Example: lift3d operators check my_models.segmenter:Segmenter --set operator.kwargs.weights=/data/w.safetensors
    """
    from jobs.settings import labeling_config, located, reader_config, training_values
    from pipeline.operators.check_images import read_batches
    from pipeline.operators.checker import check_spec

    config = labeling_config(None, settings, {"source": ".", "store": ".", "operator.spec": spec})
    batches = read_batches(located(on, "source"), reader_config(settings, reader)) if on else None
    variation: dict[str, Any] = training_values(None, vary, {})
    found = check_spec(spec, config.operator.kwargs, device=device, batches=batches, variation=variation)
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        for one in found:
            print(f"{one.status:<8}{one.check}" + (f"\n        {one.text}" if one.text else ""))
    if any(one.status == "breach" for one in found):
        raise typer.Exit(1)
