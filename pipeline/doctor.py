"""Is this machine ready to label? One check a line, each with what to do where it is not."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from pipeline.assets import filesystem, local_path
from pipeline.preflight import free_memory
from pipeline.reach import answer_of, check_cluster, check_local_store, existing
from schemas.errors import Lift3DError, StoreError

Status = Literal["ok", "warn", "fail"]

PACKAGES = ("torch", "ray", "pyarrow", "pandas", "numpy", "opencv-python-headless", "timm")
MEMORY_GB = 4.0
DISK_GB = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `lift3d doctor`: what was looked at, how it stands, what was found and what to do."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def examine(store: str | None = None) -> list[Check]:
    """Every check, in the order in which a reader would ask. Nothing is left behind, nothing is fetched."""
    return [
        _python(),
        *_packages(),
        _torch(),
        _half_precision(),
        _ray(),
        _memory(),
        _disk(store),
        _lift_weights(),
        *_operators(),
        *([_store(store)] if store else []),
    ]


def table(checks: Sequence[Check]) -> str:
    """The checks as text."""
    width = max(len(check.name) for check in checks)
    lines = [f"{check.status:<4}  {check.name:<{width}}  {check.found}" for check in checks]
    remedies = [f"      {check.name}: {check.remedy}" for check in checks if check.remedy and check.status != "ok"]
    return "\n".join([*lines, *(["", "What to do:"] if remedies else []), *remedies])


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    return Check("python", "ok" if sys.version_info >= (3, 11) else "fail", found, "Python 3.11 or newer is needed")


def _packages() -> Iterator[Check]:
    for name in PACKAGES:
        try:
            yield Check(name, "ok", version(name))
        except PackageNotFoundError:
            yield Check(name, "fail", "not installed", "run `make setup`, or pip install lift3d-labeling")


def _torch() -> Check:
    import torch

    if not torch.cuda.is_available():
        return Check("gpu", "warn", "no CUDA device: labelling runs on CPU", "use a GPU for large datasets")
    free, total = torch.cuda.mem_get_info()
    return Check("gpu", "ok", f"{torch.cuda.get_device_name()}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free")


def _half_precision() -> Check:
    """Whether there are instructions for bfloat16, without which `autocast(SPEC)` is slower than float32."""
    import torch

    if torch.cuda.is_available():
        there = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        there = any(has for name, has in found.items() if "bf16" in name)
    return Check(
        "bfloat16",
        "ok",
        f"{'in' if there else 'not in'} hardware: autocast(SPEC) {'pays' if there else 'does not pay'}",
    )


def _ray() -> Check:
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        return Check("ray", "ok", "RAY_ADDRESS is not set: a run starts Ray on this machine")
    try:
        check_cluster(address)
    except Lift3DError as error:
        return Check("ray", "fail", error.message, "start the cluster, or unset RAY_ADDRESS")
    return Check("ray", "ok", f"{address} answers")


def _memory() -> Check:
    free = free_memory() / 1e9
    status: Status = "ok" if free >= MEMORY_GB else "warn"
    return Check("memory", status, f"{free:.1f} GB free", f"less than {MEMORY_GB:g} GB is little; lower plan.chunk")


def _disk(store: str | None) -> Check:
    local = store if store and "://" not in store else "."
    free = shutil.disk_usage(existing(local)).free / 1e9
    status: Status = "ok" if free >= DISK_GB else "warn"
    return Check("disk", status, f"{free:.1f} GB free at {local}", "make room, or label into a store elsewhere")


def _operators() -> Iterator[Check]:
    """Weights of the operators that need no argument: building one loads them."""
    from pipeline.operators import build_operator, list_operators

    for info in list_operators():
        name = info.name.partition("[")[0]
        if ":" in name or "(" in name:
            continue
        try:
            operator = build_operator(name, {}, "cpu")
            yield Check(f"operator {name}", "ok", operator.fingerprint())
        except Lift3DError as error:
            yield Check(f"operator {name}", "warn", error.message, error.remedy or info.needs)


def _lift_weights() -> Check:
    from pipeline.lift_weights import weights_sha256
    from schemas.config import LiftConfig

    try:
        found = weights_sha256(LiftConfig())
    except Lift3DError as error:
        return Check("lift weights", "fail", error.message, "reinstall lift3d-labeling")
    if found is None:
        return Check("lift weights", "warn", "this package carries none: the lift is analytic", "run `lift3d train`")
    return Check("lift weights", "ok", f"shipped checkpoint, sha256 {found[:12]}")


def _store(uri: str) -> Check:
    """A local folder by its permissions, so that nothing is created; a remote one by a small file put and removed."""
    from schemas.text import masked

    try:
        check_local_store(uri)
        if local_path(uri) is None:
            answer_of(StoreError, f"the store {uri}", lambda: _put_probe(uri))()
    except Lift3DError as error:
        return Check("store", "fail", error.message, error.remedy)
    return Check("store", "ok", masked(f"{uri} takes new files"))


def _put_probe(uri: str) -> None:
    files, path = filesystem(uri)
    probe = f"{path.rstrip('/')}/_doctor-{os.getpid()}"
    files.pipe_file(probe, b"lift3d")
    files.rm_file(probe)
