"""Commands that measure: benchmark lift, benchmark speed, benchmark engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.options import Reader, Scenes, Settings

app = typer.Typer(help="Measure lifting on your scenes.", no_args_is_help=True, rich_markup_mode=None)


@app.command("lift")
def benchmark_lift(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Datasets or scenes to measure on.")],
    out: Annotated[Path, typer.Option(help="Folder of the measurements; what is there is not measured again.")],
    parts: Annotated[str | None, typer.Option(metavar="a,b,...", help="Parts: docs/benchmarks.md names them.")] = None,
    scenes: Scenes = None,
    source_counts: Annotated[str | None, typer.Option("--sources", help="Source counts: 4,8,16.")] = None,
    noise: Annotated[str | None, typer.Option(help="Noise levels besides clean labels: 0.5,1,2.")] = None,
    modes: Annotated[str | None, typer.Option(help="Geometries: depth,rgb.")] = None,
    limit_views: Annotated[int | None, typer.Option(min=2, help="Measured views a scene, at most: 24.")] = None,
    few_views: Annotated[int | None, typer.Option(min=2, help="The same where cells are dear (b, c, f): 8.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder with deeplab_voc/ and style_ncnn/.")] = None,
    write: Annotated[Path | None, typer.Option(help="Document whose marked section becomes the tables.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is on file.")] = False,
    reader: Reader = None,
    settings: Settings = None,
) -> None:
    """Measure lifted labels, views, depth and confidence beside baselines on the same input. Run again to go on.

    Example: lift3d benchmark lift data/rooms data/kitchen --out out/benchmark
    """
    from jobs.settings import located, reader_config
    from pipeline.benchmark.lift import benchmark_lift as measure
    from pipeline.benchmark.options import parse_options

    asked: dict[str, Any] = {"parts": parts, "sources": source_counts, "noise": noise, "modes": modes}
    asked |= {"limit_views": limit_views, "few_views": few_views, "weights": weights and str(weights.expanduser())}
    where = [located(source, "source") for source in sources]
    read = reader_config(settings, reader, scenes=scenes)
    print(measure(where, out, parse_options(asked), reader=read, document=write, fresh=fresh).markdown())


@app.command("speed")
def benchmark_speed(
    scene: Annotated[str | None, typer.Option(help="Dataset with object ids; the sample room where absent.")] = None,
    operator_channels: Annotated[int, typer.Option(min=1, help="Channels of the lifted features.")] = 64,
    threads: Annotated[str, typer.Option(metavar="N,N,...", help="Torch threads, each measured.")] = "1,2",
    rounds: Annotated[int, typer.Option(min=1, help="How often every case is measured, in turns.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Folder for results.json.")] = None,
    write: Annotated[Path | None, typer.Option(help="Document whose marked section becomes the tables.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny images, one round: no figure means anything.")] = False,
) -> None:
    """Time lifting against a GNT-style renderer in the same run, stage by stage, and how cost grows.

    Example: lift3d benchmark speed --threads 1,2 --out out/speed
    """
    from jobs.settings import located
    from pipeline.benchmark.speed import SpeedOptions, parse_threads
    from pipeline.benchmark.speed import benchmark_speed as measure

    where = scene and located(scene, "scene")
    print(measure(SpeedOptions(where, operator_channels, parse_threads(threads), rounds, quick), out, write).markdown())


@app.command("engine")
def benchmark_engine(
    parts: Annotated[
        str | None, typer.Option(metavar="a,b,...", help="overhead, turns, scratch, memory, makespan, passes.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often every case is measured, in turns.")] = 3,
    rooms: Annotated[int, typer.Option(min=2, help="Copies of the sample room in a run.")] = 10,
    workers: Annotated[str, typer.Option(metavar="N,N,...", help="Processes at work, each measured.")] = "1,2",
    out: Annotated[Path | None, typer.Option(help="Folder of the measurements; other parts' stay.")] = None,
    write: Annotated[Path | None, typer.Option(help="Document whose marked section becomes the tables.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small numbers, one round: no figure means anything.")] = False,
) -> None:
    """Time the engines against a plain loop over the same operator and lift; memory, idle workers, scratch space.

    Example: lift3d benchmark engine --parts overhead --out out/engine
    """
    from pipeline.benchmark.engine import EngineOptions, parse_parts
    from pipeline.benchmark.engine import benchmark_engine as measure
    from pipeline.benchmark.speed import parse_threads

    asked = EngineOptions(parse_parts(parts), rounds, rooms, parse_threads(workers, "--workers"), quick)
    print(measure(asked, out, write).markdown())


@app.command("operators")
def benchmark_operators(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Datasets or scenes to measure on.")],
    out: Annotated[Path, typer.Option(help="Folder of stores and measurements; what is there is not measured again.")],
    operators: Annotated[str | None, typer.Option(metavar="TITLE,...", help="Operators, by title: all.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder with deeplab_voc/ and style_ncnn/.")] = None,
    source_counts: Annotated[int, typer.Option("--sources", min=1, max=64, help="Source views a target.")] = 16,
    write: Annotated[Path | None, typer.Option(help="Document whose marked section becomes the tables.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is on file.")] = False,
    reader: Reader = None,
    settings: Settings = None,
) -> None:
    """Label scenes with real operators, raw and lifted, and compare: agreement of views, quality, seconds a frame.

    Example: lift3d benchmark operators data/kitchen data/fox --out out/operators --weights weights
    """
    from jobs.settings import located, reader_config
    from pipeline.benchmark.operator_table import OperatorOptions
    from pipeline.benchmark.operator_table import benchmark_operators as measure

    wanted = tuple(title.strip() for title in operators.split(",")) if operators else None
    options = OperatorOptions(wanted, str(weights.expanduser().resolve()) if weights else None, source_counts)
    where = [located(source, "source") for source in sources]
    tables = measure(where, out, options, reader=reader_config(settings, reader), document=write, fresh=fresh)
    print("\n".join(table.markdown() for table in tables))
