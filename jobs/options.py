"""Options and arguments that several commands share."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A config value by its path: lift.sources=12."),
]
Reader = Annotated[str | None, typer.Option(help="Dataset layout: auto, scannet, sens, nerfstudio.")]
Scenes = Annotated[str | None, typer.Option(metavar="GLOB", help="Only scenes whose id matches.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most this many scenes.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")]
Source = Annotated[str, typer.Argument(help="Dataset or scene: a local path or a URI such as s3://bucket/folder.")]
Store = Annotated[str, typer.Argument(help="Label store: a local path or a URI.")]
InLabelSet = Annotated[
    str | None,
    typer.Option("--label-set", metavar="NAME", help="Write labels of this label set (docs/label_spaces.md)."),
]
License = Annotated[
    Literal["any", "commercial"] | None,
    typer.Option("--license", help="commercial: refuse weights whose licence does not allow that, or is not known."),
]
Unmapped = Annotated[
    Literal["error", "ignore"],
    typer.Option(help="Classes without a counterpart there: refuse the operator, or give their pixels the ignore id."),
]
