"""Entry points: parse, call the pipeline, print a summary. They start fast and import late."""

from importlib.util import find_spec
from pathlib import Path

_ROOT = Path(__file__).parents[1]

for _name in ("schemas", "pipeline"):
    # These names are generic: another distribution's package of that name may be found first, or may have
    # overwritten and then removed our files, and both would fail much later in a way that is hard to read.
    _spec = find_spec(_name)
    _folder = Path(_spec.origin).parent if _spec and _spec.origin else None
    if _folder != _ROOT / _name:
        raise ImportError(
            f"package {_name!r} is {_folder or 'gone or without its __init__.py'}, expected Lift3D's, {_ROOT / _name}. "
            f"Uninstall the distribution {_name!r}, reinstall lift3d-labeling in an environment of its own, "
            "or submit with --working-dir ."
        )
