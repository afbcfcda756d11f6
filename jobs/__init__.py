"""Entry points: parse, call the pipeline, print a summary. They start fast and import late."""

from importlib.util import find_spec
from pathlib import Path

_ROOT = Path(__file__).parents[1]

for _name in ("schemas", "lift3d_model", "pipeline"):
    # These names are generic: another distribution's package of that name may be found first, or may have
    # overwritten and then removed our files, and both would fail much later in a way that is hard to read.
    _spec = find_spec(_name)
    _found = Path(_spec.origin).parents[1] if _spec and _spec.origin else None
    if _found != _ROOT:
        raise ImportError(
            f"package {_name!r} is {_found and _found / _name}, expected Lift3D's in {_ROOT}. Uninstall the distribution "
            "that brought it, reinstall lift3d-labeling in an environment of its own, or submit with --working-dir ."
        )
