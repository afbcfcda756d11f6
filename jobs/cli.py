"""`lift3d`: the commands. Each one parses, calls the pipeline and prints; nothing heavy is imported before it runs.

Results go to stdout, progress and messages to stderr. Exit codes: 0 done, 1 failed, 2 bad usage or config,
3 finished with frames in quarantine, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jobs import benchmark_commands, operator_commands, store_commands, trust_commands
from jobs.options import AsJson, InLabelSet, License, Limit, Reader, Scenes, Settings, Source, Store, Unmapped
from jobs.output import print_json as _print_json
from jobs.output import set_up_output

if TYPE_CHECKING:
    from schemas.config import LabelingConfig

INTERRUPTED = 130
"""Exit code after Ctrl-C or SIGTERM, as shells have it."""

RetryQuarantined = Annotated[
    bool, typer.Option("--retry-quarantined", help="Only the frames in quarantine, crashed ones too.")
]
ExplainPlan = Annotated[
    bool, typer.Option("--explain-plan", help="Like --dry-run, and say scene by scene what would run and why.")
]

app = typer.Typer(
    help="View-consistent labels for every frame of a multi-view scene, from any 2D vision model.",
    epilog="Add --debug to any command to see where an error came from.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
label_app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(operator_commands.app, name="operators")
app.add_typer(benchmark_commands.app, name="benchmark")
app.add_typer(store_commands.app)
app.add_typer(trust_commands.app)


@label_app.command()
@app.command()
def label(
    context: typer.Context,
    source: Annotated[str | None, typer.Argument(help="Dataset or scene: a local path or a URI.")] = None,
    store: Annotated[str | None, typer.Option(metavar="URI", help="Where labels go; may exist already.")] = None,
    operator: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC", help="2D model: name, name:argument or package.module:Class. Several work in one pass."
        ),
    ] = None,
    reader: Reader = None,
    config: Annotated[Path | None, typer.Option(help="YAML or JSON config; options given here win over it.")] = None,
    settings: Settings = None,
    scenes: Scenes = None,
    limit: Limit = None,
    lift: Annotated[
        Literal["auto", "rgb", "depth", "none"] | None,
        typer.Option(help="Geometry: depth where a frame has it (auto), or always one way; none: raw 2D prediction."),
    ] = None,
    mode: Annotated[
        Literal["label", "novel"] | None,
        typer.Option(help="label: a view is one of its own sources; novel: only the others are."),
    ] = None,
    engine: Annotated[
        Literal["ray", "local"] | None, typer.Option(help="ray: actors, here or on a cluster; local: this process.")
    ] = None,
    events: Annotated[
        str | None, typer.Option(metavar="FILE", help="Append what happens as JSON lines; - is stdout.")
    ] = None,
    label_set: InLabelSet = None,
    unmapped: Unmapped = "error",
    license_: License = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and label nothing.")] = False,
    retry_quarantined: RetryQuarantined = False,
    explain_plan: ExplainPlan = False,
) -> None:
    """Label every frame of SOURCE into a store. Run it again to resume: what is done is kept.

    Example: lift3d label data/scans --store out/labels --operator indoor
    """
    from jobs.settings import in_label_set, labeling_config, located

    options = {
        "source": source,
        "store": store,
        "operator.spec": operator[0] if operator and len(operator) == 1 else operator or None,
        "reader.name": reader,
        "reader.scenes": scenes,
        "reader.limit": limit,
        "lift.method": lift,
        "lift.mode": mode,
        "operator.license": license_,
        "engine.kind": engine,
        "engine.events": events if events in (None, "-") else located(events, "events"),
    }
    chosen = in_label_set(labeling_config(config, settings, options, context.obj), label_set, unmapped)
    if explain_plan or dry_run:
        return (_explain if explain_plan else _show_plan)(chosen, retry_quarantined)
    from pipeline.run import run_labeling

    summary = run_labeling(chosen, only_quarantined=retry_quarantined)
    _print_json(asdict(summary))
    raise typer.Exit(summary.exit_code)


def _show_plan(chosen: LabelingConfig, only_quarantined: bool) -> None:
    from pipeline.run import plan_labeling
    from schemas.text import masked_document

    plan = masked_document(asdict(plan_labeling(chosen, only_quarantined=only_quarantined)))
    print("\n".join(f"{name.replace('_', ' '):<18} {value}" for name, value in plan.items()))
    _print_json(plan)


def _explain(chosen: LabelingConfig, only_quarantined: bool) -> None:
    from pipeline.explain import explain_plan

    why = explain_plan(chosen, only_quarantined=only_quarantined)
    for operator, scenes in groupby(why, key=lambda scene: scene.operator):
        if len(chosen.operator.specs) > 1:
            print(f"{operator}:")
        print("\n".join(map(str, scenes)))
    _print_json({"store": chosen.store, "scenes": [scene.to_json() for scene in why]})


@app.command()
def inspect(
    source: Source,
    reader: Reader = None,
    scenes: Scenes = None,
    limit: Limit = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show what a dataset holds: scenes, frames, image sizes, depth, labels, and frames set aside with the reason.

    Example: lift3d inspect data/scans --scenes 'scene00*'
    """
    from jobs.settings import located, reader_config
    from pipeline.inspect import inspect_dataset, table

    found = inspect_dataset(located(source, "source"), reader_config(settings, reader, scenes=scenes, limit=limit))
    _print_json([asdict(scene) for scene in found]) if as_json else print(table(found))


@app.command()
def status(
    store: Store,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again until no run is alive.")] = False,
) -> None:
    """Show how far a store is, which runs are alive, what they are at and when they will be done, from any machine.

    Example: lift3d status s3://bucket/labels --watch
    """
    from jobs.settings import located
    from pipeline.telemetry.show import show_status

    show_status(located(store, "store"), as_json=as_json, watch=watch, write=print)


@app.command()
def evaluate(
    store: Store,
    gt: Annotated[str, typer.Option("--gt", metavar="SOURCE", help="Dataset with ground-truth labels.")],
    operator: Annotated[
        str | None, typer.Option(metavar="SLUG", help="Which operator's labels, where the store holds several.")
    ] = None,
    raw: Annotated[
        str | None, typer.Option(metavar="URI", help="Store with the raw predictions; made where it is not given.")
    ] = None,
    baselines: Annotated[bool, typer.Option(help="Compare with raw, nearest-view warp and depth voting.")] = True,
    reader: Reader = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Score a store's class labels against ground truth, beside the raw prediction and depth baselines.

    Example: lift3d evaluate out/labels --gt data/scans --json
    """
    from jobs.settings import located, reader_config
    from pipeline.evaluation import evaluate as evaluate_store

    result = evaluate_store(
        located(store, "store"),
        located(gt, "source"),
        operator=operator,
        raw_store=raw and located(raw, "store"),
        reader=reader_config(settings, reader),
        baselines=baselines,
    )
    _print_json(result.to_json()) if as_json else print(result.table())


@app.command()
def doctor(
    store: Annotated[str | None, typer.Option(metavar="URI", help="Also check that this store can be written.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine: versions, GPU, Ray, memory, disk, weights, store. Exit code 1 where something fails.

    Example: lift3d doctor --store s3://bucket/labels
    """
    from jobs.settings import located
    from pipeline.doctor import examine, table

    checks = examine(store and located(store, "store"))
    _print_json([asdict(check) for check in checks]) if as_json else print(table(checks))
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)


@app.command()
def report(
    store: Store,
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    gt: Annotated[str | None, typer.Option("--gt", metavar="SOURCE", help="Dataset with ground truth.")] = None,
    raw: Annotated[str | None, typer.Option(metavar="URI", help="Store with the raw predictions.")] = None,
    reader: Reader = None,
    settings: Settings = None,
) -> None:
    """Write a self-contained HTML page about a store: pictures, classes, consistency, quarantine.

    Example: lift3d report out/labels --out report.html
    """
    from jobs.settings import located, reader_config
    from pipeline.report.report import write_report

    written = write_report(
        located(store, "store"),
        out,
        gt and located(gt, "source"),
        raw and located(raw, "store"),
        reader=reader_config(settings, reader),
    )
    print(written)


@app.command()
def train(
    source: Annotated[list[str], typer.Argument(help="Datasets or scenes: local paths or URIs.")],
    out: Annotated[Path, typer.Option(help="Folder of the cache, the run's state and its checkpoint.")],
    config: Annotated[Path | None, typer.Option(help="YAML or JSON config; options given here win over it.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A config value by its path: fit.seed=1.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps a part.")] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"] | None, typer.Option(help="Where to compute.")] = None,
) -> None:
    """Train the lift on scenes with cameras; no labels are needed. Run it again to resume.

    Example: lift3d train data/rooms data/kitchen --out out/training
    """
    from jobs.settings import located, training_values
    from pipeline.training.config import parse_training
    from pipeline.training.train import train as train_lift

    options = {
        "source": [located(uri, "source") for uri in source],
        "out": str(out),
        "fit.steps": steps,
        "device": device,
    }
    _print_json(train_lift(parse_training(training_values(config, settings, options))))


@app.command()
def schema(what: Annotated[Literal["config", "metadata", "events"], typer.Argument(help="Which one.")]) -> None:
    """Print the JSON schema of the config file, of the store's file-level metadata or of a run's events.

    Example: lift3d schema config > lift3d.schema.json
    """
    from pipeline.telemetry.events import events_json_schema
    from schemas.config import LabelingConfig
    from schemas.store import metadata_json_schema

    made = {"config": LabelingConfig.model_json_schema, "metadata": metadata_json_schema, "events": events_json_schema}
    print(json.dumps(made[what](), indent=2))


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `lift3d`; exits with a code of the table above."""
    _run(app, argv)


def main_label(default_reader: str) -> None:
    """Entry point of a script that is `lift3d label` with a default reader."""
    _run(label_app, None, obj=default_reader)


def _run(commands: typer.Typer, argv: Sequence[str] | None, **context: Any) -> None:
    """Expected errors become one line on stderr; `--debug` anywhere on the line lets them through."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    set_up_output(debug=debug)
    try:
        commands(args=[argument for argument in arguments if argument != "--debug"], **context)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("interrupted", file=sys.stderr)
        raise
    except _expected_error() as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _expected_error() -> Any:
    """The root of the error tree, imported only once something was raised."""
    from schemas.errors import Lift3DError

    return Lift3DError


if __name__ == "__main__":
    main()
