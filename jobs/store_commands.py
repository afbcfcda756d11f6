"""Commands that look after a store: validate, vacuum, compact, diff, tag, rollback, explain, replay."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from jobs.options import AsJson, Store
from jobs.output import print_json as _print_json

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)

Operator = Annotated[str | None, typer.Option(metavar="SPEC", help="Only the labels of this operator: SPEC or slug.")]
Scene = Annotated[str, typer.Argument(help="The scene's id.")]
Frame = Annotated[str, typer.Argument(help="The frame's id, as the dataset names it.")]


@app.command()
def validate(store: Store) -> None:
    """Check a store: every row decodes, ids are known, sums add up, files are as committed, nothing is astray.

    Also staged leftovers of killed runs, history, quarantine, tags and run documents. Changes nothing; exit code 1
    where anything is wrong.

    Example: lift3d validate out/labels
    """
    from pipeline.store import validate as validate_store

    found = validate_store(_located(store))
    for problem in found.problems:
        where = f"{problem.path}, frame {problem.frame}" if problem.frame else problem.path
        print(f"{where}: {problem.message}. {problem.remedy}")
    _print_json(found.to_json())
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def vacuum(
    store: Store,
    keep_days: Annotated[float, typer.Option(min=0, help="Keep replaced and staged labels for so many days.")] = 30.0,
    apply: Annotated[bool, typer.Option("--apply", help="Remove the files; without it, only list them.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what nothing needs any more, with sizes, and with --apply remove it. Visible and tagged labels stay.

    That is: half files of killed processes, markers and damaged files without their other half, staged labels that no
    run took up, and labels that were replaced.

    Example: lift3d vacuum out/labels --keep-days 7
    """
    from pipeline.care.vacuum import vacuum as vacuum_store

    found = vacuum_store(_located(store), keep_days, apply=apply)
    _print_json(found.to_json()) if as_json else print(found.table())


@app.command()
def compact(
    store: Store,
    operator: Operator = None,
    scene: Annotated[str | None, typer.Option(help="Only this scene.")] = None,
    most_mb: Annotated[int, typer.Option(min=1, help="Megabytes of a merged file, about.")] = 256,
    as_json: AsJson = False,
) -> None:
    """Merge the label files of each scene and operator: same rows, fewer files. Old files go to _history/.

    Example: lift3d compact out/labels
    """
    from pipeline.care.compact import compact as compact_store

    done = compact_store(_located(store), operator, scene, most_mb * 2**20)
    if as_json:
        return _print_json(asdict(done))
    print(
        f"{done.files_before} label files before, {done.files_after} now; {done.frames} rows in {done.shelves} scenes"
    )
    return None


@app.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A label store.")],
    b: Annotated[str | None, typer.Argument(metavar="[B]", help="Another one; A itself where absent.")] = None,
    operator: Operator = None,
    to_operator: Annotated[str | None, typer.Option(metavar="SPEC", help="Of B, where it is another one.")] = None,
    from_tag: Annotated[str | None, typer.Option(metavar="NAME", help="A as it was at this tag.")] = None,
    to_tag: Annotated[str | None, typer.Option(metavar="NAME", help="B as it was at this tag.")] = None,
    every: Annotated[bool, typer.Option("--every", help="Compare frames with equal fingerprints too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare labels: frames only in one, frames with another fingerprint, pixels that changed from class to class.

    Example: lift3d diff out/labels --from-tag before
    """
    from pipeline.care.diff import Side
    from pipeline.care.diff import diff as diff_labels

    first, second = _located(a), _located(b or a)
    sides = Side(first, from_tag, operator), Side(second, to_tag, to_operator or operator)
    found = diff_labels(*sides, every=every)
    _print_json(found.to_json()) if as_json else print(found.table())


@app.command()
def tag(
    store: Store,
    name: Annotated[str | None, typer.Argument(help="Name of the tag.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the tags.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Forget the tag.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remember which files make the labels of now, so that they can be read, compared and shown again later.

    Example: lift3d tag out/labels before-retraining
    """
    from pipeline.care import tags

    where = _located(store)
    if listing == (name is not None) or (delete and name is None):
        raise typer.BadParameter("give a NAME, or --list without one")
    if name is not None and delete:
        return tags.delete_tag(where, name)
    found = tags.list_tags(where) if name is None else [tags.make_tag(where, name)]
    if as_json:
        return _print_json([_tag_row(one) for one in found])
    for row in map(_tag_row, found):
        print(
            f"{row['name']:<24} {row['created_at']}  {row['frames']} frames, {row['files']} files, {row['bytes']} bytes"
        )
    return None


@app.command()
def rollback(
    store: Store,
    name: Annotated[str, typer.Argument(help="Name of the tag.")],
    operator: Operator = None,
    as_json: AsJson = False,
) -> None:
    """Show the labels of a tag again. What is visible now goes to _history/; tag it first to find it again.

    Example: lift3d rollback out/labels before-retraining
    """
    from pipeline.care.tags import rollback as roll_back

    done = roll_back(_located(store), name, operator)
    if as_json:
        return _print_json(asdict(done))
    files = f"{done.files_shown} files shown, {done.files_retired} retired"
    print(f"{done.frames} frames of tag {done.tag} are visible: {files}")
    return None


@app.command()
def explain(store: Store, scene: Scene, frame: Frame, operator: Operator = None, as_json: AsJson = False) -> None:
    """Tell where a frame's label comes from: operator, source views, checkpoint, run, versions, quarantine.

    Example: lift3d explain out/labels scene0000_00 120
    """
    from pipeline.care.explain import explain as explain_frame

    found = explain_frame(_located(store), scene, frame, operator)
    _print_json([one.to_json() for one in found]) if as_json else print("\n".join(one.text() for one in found))


@app.command()
def replay(
    store: Store,
    scene: Scene,
    frame: Frame,
    source: Annotated[str | None, typer.Option(metavar="URI", help="Where the dataset is now, if it moved.")] = None,
    operator: Operator = None,
    as_json: AsJson = False,
) -> None:
    """Label one frame again with its run's own config, and compare: bit-equal, or what differs and the likely reason.

    Writes nothing. Exit code 1 where prediction or confidence differ.

    Example: lift3d replay out/labels scene0000_00 120
    """
    from pipeline.care.replay import replay as replay_frame

    where = source and _located(source, "source")
    done = replay_frame(_located(store), scene, frame, operator=operator, source=where)
    _print_json(done.to_json()) if as_json else print(done.text())
    if not done.equal:
        raise typer.Exit(1)


def _tag_row(tag: Any) -> dict[str, Any]:
    files = sum(len(shelf.files) for shelf in tag.shelves)
    created = tag.created_at.isoformat(timespec="seconds")
    return {"name": tag.name, "created_at": created, "frames": tag.frames, "files": files, "bytes": tag.bytes}


def _located(uri: str, what: str = "store") -> str:
    from jobs.settings import located

    return located(uri, what)
