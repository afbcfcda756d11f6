"""A worker's heap: memory that was freed is used again without asking the kernel for it."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from pipeline.heap import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def use():
    maps = [np.ones(2**19) for _ in range(30)]  # 4 MB each, as maps of 640x480 are a few
    return sum(one[0] for one in maps)

use(), use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep the heaps that they keep")
def test_memory_is_used_again_without_a_page_fault() -> None:
    faults = {how: _faults(how) for how in ("kept", "given back")}
    assert faults["given back"] > 10_000, "else there is nothing to be gained"
    assert faults["kept"] < faults["given back"] / 20


def _faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True)
    return int(done.stdout)
