"""Runs that are killed at random and run again until they end, and what becomes of their stores."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
from chaos_processes import KINDS, ROOT, Cluster, cluster, descendants, end, environment, victims

SCENES = {"a": 8, "b": 10, "c": 6, "d": 8}
BAD = ("b/3", "d/5")
"""Frames that the operator never gets over, each time in another way; two more have files that nobody can read."""
UNREADABLE = ("a/1", "c/0")
BUCKET = "chaos"
WORKERS, CHUNK, RERUNS = 2, 2, 12
ENDED = (0, 3)
"""Codes of a run that went through to its end."""


@dataclass
class Plan:
    """One run's fate, drawn from a seed."""

    seed: int
    engine: str
    victim: str
    moment: float
    late: bool
    bad: str
    once: str = ""
    failing_put: int = 0
    place: str = "disk"

    @classmethod
    def draw(cls, seed: int) -> Plan:
        """Victims take turns; all else is chance. A frame that dies of a fault is not killed from outside as well."""
        chance = random.Random(seed)
        victim = ("actor", "driver", "worker", "raylet", "driver", "actor")[seed % 6]
        engine = "local" if seed % 6 == 4 else "ray"
        plan = cls(seed, engine, victim, chance.uniform(0.0, 2.5), chance.random() < 0.85, "raise")
        kind = chance.choice(["none", "none", "storage", "storage", "exit", "hang", "once"])
        if kind == "storage":
            plan.failing_put = chance.randint(2, 60)
        elif kind == "once" and victim in ("driver", "raylet") and engine == "ray":
            plan.once = "a/4"
        elif kind in ("exit", "hang"):
            plan.bad = kind
        if chance.random() < 0.3:
            plan.place = "s3"
        return plan

    @property
    def faults(self) -> dict[str, str]:
        """Frame -> what happens there."""
        return dict.fromkeys(BAD, self.bad) | ({self.once: "once"} if self.once else {})


@dataclass
class Outcome:
    """What a plan led to. `begun_again` and `ended_again` are of frames that can be labelled."""

    plan: Plan
    codes: list[int] = field(default_factory=list)
    killed: str = ""
    in_flight: int = 0
    faults: int = 0
    begun_again: int = 0
    ended_again: int = 0
    rows: int = 0
    wall_s: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether no more frames were begun again than were in flight at the kill or the fault.

        Whatever ends the driver ends all workers; what an actor finished before it could say so, it does twice.
        """
        units = WORKERS * bool(self.killed) + (WORKERS if self.plan.failing_put else 1) * self.faults
        unsaid = self.killed in ("actor", "worker")
        return self.begun_again <= CHUNK * units and self.ended_again <= CHUNK * unsaid


class Campaign:
    """A dataset, the clean store, and one cluster for the runs that need none of their own."""

    def __init__(self, folder: Path, shared: Cluster | None) -> None:
        self.folder, self.shared = folder, shared
        write_dataset(folder / "rooms")
        clean = str(folder / "clean")
        code = self._start(clean, Plan(0, "local", "", 0, False, "raise"), folder / "clean.log").wait()
        assert code == 3, f"the clean run ended with {code}: {(folder / 'clean.log.err').read_text()}"
        self.clean = content(clean)

    def run(self, plan: Plan) -> Outcome:
        """Start, kill, run again to the end, compare. Raises AssertionError where the store is not the clean one."""
        began, outcome = time.monotonic(), Outcome(plan)
        log = self.folder / f"log{plan.seed}"
        store = f"s3://{BUCKET}/store{plan.seed}" if plan.place == "s3" else str(self.folder / f"store{plan.seed}")
        while not outcome.codes or outcome.codes[-1] not in ENDED:
            assert len(outcome.codes) < RERUNS, f"{plan}: did not end: {outcome.codes}\n{errors(log)}"
            driver = self._start(store, plan, log)
            if not outcome.killed:
                self._strike(driver, plan, log, outcome)
            outcome.codes.append(self._end(driver, log))
        self._judge(plan, store, log, outcome)
        outcome.wall_s = round(time.monotonic() - began, 1)
        return outcome

    def _start(self, store: str, plan: Plan, log: Path) -> subprocess.Popen[bytes]:
        kwargs = {"log": str(log), "faults": plan.faults, "seconds": 0.06, "failing_put": plan.failing_put}
        settings = {
            "operator.kwargs": json.dumps(kwargs),
            "operator.batch_size": "1",
            "plan.chunk": str(CHUNK),
            "lift.sources": "3",
            "engine.workers": str(WORKERS),
            "engine.frame_timeout_s": "6" if plan.bad == "hang" else "60",
            "engine.no_progress_s": "300",
            "engine.scratch": "none",
        }
        command = [sys.executable, "-m", "jobs.cli", "label", str(self.folder / "rooms"), "--store", store]
        command += ["--operator", "chaos.chaos_operator:Chaotic", "--engine", plan.engine, "--lift", "depth"]
        command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        shared = plan.engine == "ray" and plan.victim != "raylet" and self.shared
        env = {**self.shared.env, "RAY_ADDRESS": self.shared.address} if shared else environment()
        with open(f"{log}.err", "ab") as out:
            return subprocess.Popen(command, env=env, cwd=ROOT, stdout=out, stderr=out, start_new_session=True)

    def _strike(self, driver: subprocess.Popen[bytes], plan: Plan, log: Path, outcome: Outcome) -> None:
        """Wait for the moment, then kill; a run that is over before it gets away."""
        deadline = time.monotonic() + 120
        while plan.late and not begun(log) and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(plan.moment)
        nodes = self.shared.nodes if self.shared and plan.victim != "raylet" else []
        roots = [driver.pid, *(node.pid for node in nodes)]
        while driver.poll() is None and time.monotonic() < deadline:
            found = [driver.pid] if plan.victim == "driver" else [p.pid for p in victims(plan.victim, *roots)]
            if found:
                outcome.killed = plan.victim
                if plan.victim == "driver":
                    self._orphans = descendants(driver.pid)
                with suppress(ProcessLookupError):
                    os.kill(random.Random(plan.seed).choice(found), signal.SIGKILL)
                break
            time.sleep(0.05)
        outcome.in_flight = len(open_frames(log))

    def _end(self, driver: subprocess.Popen[bytes], log: Path) -> int:
        orphans = [*getattr(self, "_orphans", ()), *descendants(driver.pid)]
        try:
            return driver.wait(timeout=200)
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.wait()
            raise AssertionError(f"a run hung: {errors(log)}") from None
        finally:
            end(orphans, patience_s=10.0)
            self._orphans = []

    def _judge(self, plan: Plan, store: str, log: Path, outcome: Outcome) -> None:
        from pipeline.store import validate
        from pipeline.store.files import open_files

        labels, quarantine = content(store)
        assert not (problems := validate(store).problems), f"{plan}: {problems}"
        pd.testing.assert_frame_equal(labels, self.clean[0])
        assert quarantine == self.clean[1], f"{plan}: {quarantine}"
        assert not open_files(store).list("_leases"), f"{plan}: a lease was left"
        assert "(raylet)" not in Path(f"{log}.err").read_text(), f"{plan}: Ray's own words among the results"
        events = [line.split() for line in log.read_text().splitlines()]
        sound = [(what, frame) for what, frame, _ in events if frame not in (*BAD, *UNREADABLE)]
        for name, count in (("begun_again", "begin"), ("ended_again", "end")):
            counts = Counter(frame for what, frame in sound if what == count)
            setattr(outcome, name, counts.total() - len(counts))
        outcome.rows = len(labels)
        outcome.faults = sum(what in ("fault", "storage") for what, *_ in events)


def begun(log: Path) -> bool:
    """Whether some unit of work was begun."""
    return log.exists() and "begin" in log.read_text()


def open_frames(log: Path) -> set[str]:
    """Frames that were begun and have not ended."""
    balance: Counter[str] = Counter()
    for line in log.read_text().splitlines() if log.exists() else ():
        what, frame, _ = line.split()
        balance[frame] += {"begin": 1, "end": -1}.get(what, 0)
    return {frame for frame, open_ in balance.items() if open_ > 0}


def errors(log: Path) -> str:
    """What the drivers said."""
    return Path(f"{log}.err").read_text()[-3000:]


def content(store: str | Path) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """All columns of all labels but those that tell runs apart, in order, and what is in quarantine."""
    from pipeline.store import read_labels, read_quarantine

    labels = read_labels(str(store)).drop(columns=["run_id", "created_at"])
    rows = read_quarantine(str(store))
    keys = sorted((row.scene, str(row.frame)) for row in rows.itertuples())
    return labels.sort_values(["operator", "scene", "frame"], ignore_index=True), keys


def write_dataset(dataset: Path) -> None:
    """Some rooms, two frames of them spoilt."""
    write_rooms(dataset, SCENES)
    image = dataset / "a" / "color" / "1.jpg"
    image.write_bytes(image.read_bytes()[:300])
    (dataset / "c" / "color" / "0.jpg").write_bytes(b"no picture")


def write_rooms(dataset: Path, scenes: dict[str, int]) -> None:
    """Scenes (name -> frames) as the engine's tests have them."""
    spec = importlib.util.spec_from_file_location("engine_rooms", ROOT / "tests" / "engine" / "conftest.py")
    assert spec is not None and spec.loader is not None
    rooms = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rooms)
    for name, frames in scenes.items():
        rooms._write_scene(dataset, name, frames)


@contextmanager
def s3_server() -> Iterator[None]:
    """A real S3 server with an empty bucket; its address and keys are in the environment."""
    import s3fs
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line a request
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    before = dict(os.environ)
    os.environ.update(keys, AWS_ENDPOINT_URL="http://{}:{}".format(*server.get_host_and_port()))
    try:
        s3fs.S3FileSystem().mkdir(BUCKET)
        yield
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        os.environ.clear()
        os.environ.update(before)
        server.stop()


@contextmanager
def campaign(folder: Path, seeds: range) -> Iterator[Campaign]:
    """A campaign for these seeds; a shared cluster is started where some run wants one."""
    with ExitStack() as stack:
        plans = [Plan.draw(seed) for seed in seeds]
        wanted = any(plan.engine == "ray" and plan.victim != "raylet" for plan in plans)
        if any(plan.place == "s3" for plan in plans):
            stack.enter_context(s3_server())  # before the cluster, whose workers get its address from the environment
        yield Campaign(folder, stack.enter_context(cluster(cpus=3)) if wanted else None)


def main(first: int, count: int, report: Path) -> None:
    """Seeds `first` ... one after another, a line of JSON for each; whatever breaks is reported and passed over."""
    seeds = range(first, first + count)
    with tempfile.TemporaryDirectory() as folder, campaign(Path(folder), seeds) as ground:
        for seed in seeds:
            try:
                result = asdict(ground.run(Plan.draw(seed)))
            except AssertionError as error:
                result = {"plan": asdict(Plan.draw(seed)), "broken": str(error)}
            with report.open("a") as file:
                file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    assert set(KINDS) == {"actor", "worker", "raylet"}
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
