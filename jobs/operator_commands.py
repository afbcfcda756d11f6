"""Commands about 2D operators: list them."""

from __future__ import annotations

from dataclasses import asdict

import typer

from jobs.options import AsJson
from jobs.output import print_json

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def operators(context: typer.Context, as_json: AsJson = False) -> None:
    """List the 2D operators that are built in or registered by installed packages.

    Example: lift3d operators
    """
    if context.invoked_subcommand is not None:
        return
    from pipeline.operators import list_operators

    found = list_operators()
    if as_json:
        print_json([asdict(info) for info in found])
        return
    for info in found:
        print(f"{info.name}\n    {info.summary}\n    kind: {info.kind}; needs: {info.needs}; licence: {info.licence}")
