"""`python campaign.py TARGET[:COUNT][,...] COUNT SEED FOLDER`: coverage-guided campaigns, one after the other.

Prints one JSON line each: inputs, accepted values, size of the corpus, steps covered and findings (each with the
input's file). The input under trial is in FOLDER/TARGET/current: whoever watches knows it when this process dies.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from hashlib import sha256
from pathlib import Path
from random import Random

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from judge import Coverage, judge  # noqa: E402
from targets import Target, open_target  # noqa: E402

LARGEST = 1_000_000
MOST_FINDINGS = 20


warnings.simplefilter("error")


def campaign(target: Target, count: int, seed: int, folder: Path) -> dict[str, object]:
    """Mutate, try, keep what reaches new code, for `count` inputs."""
    random, coverage, findings, accepted = Random(f"{target.name} {seed}"), Coverage(), {}, 0
    kinds: set[str] = set()
    corpus = list(target.seeds)
    for data in corpus:  # warm: sound inputs are accepted without any limit, and load what is loaded late
        coverage.run(lambda data=data: target.run(data))
    for _ in range(count):
        parent = corpus[-random.randint(1, min(8, len(corpus)))] if random.random() < 0.3 else random.choice(corpus)
        data = target.mutate(parent, corpus, random)[:LARGEST]
        (folder / "current").write_bytes(data)
        fresh, verdict, value = _try(target, data, coverage)
        accepted += value
        if fresh and len(corpus) < 2_000:
            corpus.append(data)
        kind = re.sub(r"[\d'\"].*", "", verdict or "")[:60] + (verdict or "")[-30:]
        if verdict and kind not in kinds and len(findings) < MOST_FINDINGS:
            kinds.add(kind)
            name = folder / f"finding-{target.name}-{sha256(data).hexdigest()[:8]}"
            name.write_bytes(data)
            findings[verdict] = str(name)
    report = {"inputs": count, "accepted": accepted, "corpus": len(corpus), "steps": len(coverage.seen)}
    return {"target": target.name, **report, "findings": findings}


def _try(target: Target, data: bytes, coverage: Coverage) -> tuple[bool, str | None, bool]:
    """Whether the input reached new code, what is wrong with how it was dealt with, and whether it was accepted."""
    fresh = returned = False

    def action() -> None:
        nonlocal fresh, returned

        def run() -> None:
            nonlocal returned
            target.run(data)
            returned = True

        before = len(coverage.seen)
        try:
            coverage.run(run)
        finally:
            fresh = len(coverage.seen) > before

    verdict = judge(action, len(data))
    return fresh, verdict, returned


if __name__ == "__main__":
    names, usual, seed, place = sys.argv[1:]
    for name, _, own in (item.partition(":") for item in names.split(",")):
        home = Path(place) / name
        home.mkdir(parents=True, exist_ok=True)
        print(json.dumps(campaign(open_target(name, home), int(own or usual), int(seed), home)), flush=True)
