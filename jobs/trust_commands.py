"""Commands about how far labels can be trusted: calibrate, worklist."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.options import AsJson, Reader, Settings, Store
from jobs.output import print_json

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)

Operator = Annotated[
    str | None, typer.Option(metavar="SPEC", help="Which operator's labels, where the store holds several.")
]


@app.command()
def calibrate(
    store: Store,
    gt: Annotated[str, typer.Option("--gt", metavar="SOURCE", help="Dataset with ground-truth labels.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="JSON document to write.")],
    operator: Operator = None,
    reader: Reader = None,
    settings: Settings = None,
) -> None:
    """Fit a temperature of the confidence on some labelled frames and measure it on others. The store stays as it is.

    Example: lift3d calibrate out/labels --gt data/scans --out out/calibration.json
    """
    from jobs.settings import located, reader_config
    from pipeline.trust.calibrate import calibrate as calibrate_store
    from pipeline.trust.calibrate import write_calibration

    found = calibrate_store(
        located(store, "store"), located(gt, "source"), operator=operator, reader=reader_config(settings, reader)
    )
    write_calibration(found, out)
    print_json(found.model_dump())


@app.command()
def worklist(
    store: Store,
    top: Annotated[int, typer.Option(min=1, help="So many regions and so many frames.")] = 20,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What `lift3d calibrate` wrote, to be applied.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="The dataset: with its depth, a surface is listed once.")
    ] = None,
    operator: Operator = None,
    reader: Reader = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """List the regions and frames whose correction is expected to help most.

    Example: lift3d worklist out/labels --top 10 --source data/scans
    """
    from jobs.settings import located, reader_config
    from pipeline.evaluation.raw_labels import stored_labels
    from pipeline.trust.calibrate import read_calibration
    from pipeline.trust.worklist import worklist as list_work

    uri = located(store, "store")
    temperature = 1.0
    if calibration:
        temperature = read_calibration(calibration, stored_labels(uri, operator).operator).temperature
    found = list_work(
        uri,
        operator=operator,
        top=top,
        temperature=temperature,
        source=source and located(source, "source"),
        reader=reader_config(settings, reader),
    )
    print_json(found.to_json()) if as_json else print(found.table())
