"""What docs/clusters.md tells people to type exists, and the manifests name fields that KubeRay documents."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from jobs.cli import main
from schemas.config import known_paths

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCUMENT = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
JOB_FIELDS = {  # ray.io/v1 RayJobSpec, KubeRay 1.6
    *("activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint"),
    *("entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata"),
    *("preRunningDeadlineSeconds", "rayClusterSpec", "runtimeEnvYAML", "shutdownAfterJobFinishes"),
    *("submissionMode", "submitterConfig", "submitterPodTemplate", "suspend", "ttlSecondsAfterFinished"),
}
CLUSTER_FIELDS = {  # RayClusterSpec
    *("authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headGroupSpec"),
    *("headServiceAnnotations", "managedBy", "rayVersion", "suspend", "upgradeStrategy", "workerGroupSpecs"),
}
HEAD_FIELDS = {"enableIngress", "headService", "labels", "rayStartParams", "resources", "serviceType", "template"}
WORKER_FIELDS = {  # WorkerGroupSpec
    *("groupName", "idleTimeoutSeconds", "labels", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams"),
    *("replicas", "resources", "scaleStrategy", "suspend", "template"),
}


def _commands(program):
    """Argument lists of every call of a program in the document's bash blocks and in the crontab."""
    text = "\n".join(re.findall(r"```bash\n(.*?)```", DOCUMENT, flags=re.DOTALL))
    text += (DEPLOY / "crontab").read_text(encoding="utf-8").replace(r"\%", "%")
    lines = [shlex.split(line.replace("$(", "").replace(")", ""), comments=True) for line in text.splitlines()]
    found = [
        (line, [i for i, word in enumerate(line) if Path(word).name == program and line[max(i - 1, 0)] != "cd"])
        for line in lines
    ]
    return [line[at[0] + 1 :] for line, at in found if at]


def _scripted():
    return [["label", *words] for words in _commands("label_scannet.py")]


def _entrypoints():
    specs = [_job(yaml.safe_load(path.read_text(encoding="utf-8"))) for path in sorted(DEPLOY.glob("*.yaml"))]
    return [shlex.split(spec["entrypoint"])[1:] for spec in specs]


def _job(manifest):
    return manifest["spec"] if manifest["kind"] == "RayJob" else manifest["spec"]["jobTemplate"]


@pytest.mark.parametrize("words", _commands("lift3d") + _scripted() + _entrypoints(), ids=" ".join)
def test_commands_options_and_keys_exist(capsys, words):
    with pytest.raises(SystemExit):
        main([words[0], "--help"])
    text = capsys.readouterr().out
    assert [word for word in words if word.startswith("--") and f"  {word} " not in text] == []
    keys = [words[i + 1].partition("=")[0] for i, word in enumerate(words) if word == "--set"]
    assert set(keys) <= set(known_paths())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_options_of_ray_exist():
    from ray.scripts import scripts

    calls: dict[tuple[str, ...], set[str]] = {}
    for words in _commands("ray"):
        own = words[: words.index("--")] if "--" in words else words
        command = tuple(own[:2] if own[0] == "job" else own[:1])
        calls.setdefault(command, set()).update(word for word in own if word.startswith("--"))
    assert {("start",), ("job", "submit"), ("job", "stop"), ("get-auth-token",)} <= calls.keys()
    for command, options in calls.items():
        found = scripts.cli
        for word in command:
            found = found.commands[word]
        assert options <= {name for parameter in found.params for name in parameter.opts}, command


@pytest.mark.parametrize("name", ["rayjob.yaml", "raycronjob.yaml"])
def test_manifests_name_fields_that_exist(name):
    manifest = yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))
    assert manifest["apiVersion"] == "ray.io/v1"
    assert manifest.keys() == {"apiVersion", "kind", "metadata", "spec"}
    if manifest["kind"] == "RayCronJob":
        assert manifest["spec"].keys() == {"schedule", "jobTemplate"}
        assert len(manifest["spec"]["schedule"].split()) == 5
    job = _job(manifest)
    cluster = job["rayClusterSpec"]
    assert job.keys() <= JOB_FIELDS
    assert cluster.keys() <= CLUSTER_FIELDS
    assert cluster["headGroupSpec"].keys() <= HEAD_FIELDS
    assert cluster["authOptions"] == {"mode": "token"}
    for group in cluster["workerGroupSpecs"]:
        assert group.keys() <= WORKER_FIELDS
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        (container,) = group["template"]["spec"]["containers"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in group["template"]["spec"]["volumes"]}


def test_both_manifests_run_the_same_job_on_the_ray_that_is_locked():
    jobs = [_job(yaml.safe_load((DEPLOY / name).read_text("utf-8"))) for name in ("rayjob.yaml", "raycronjob.yaml")]
    assert jobs[0] == jobs[1]
    locked = re.search(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text("utf-8"), flags=re.MULTILINE)
    assert locked is not None
    assert jobs[0]["rayClusterSpec"]["rayVersion"] == locked.group(1)


def test_the_cron_line_submits_under_the_days_name_and_its_job_plans(sample_room, tmp_path, capfd):
    (line,) = [line for line in (DEPLOY / "crontab").read_text("utf-8").splitlines() if line[:1].isdigit()]
    minute, hour, *_, command = line.split(maxsplit=5)
    assert (int(minute), int(hour)) == (30, 1)
    assert re.search(r"(?<!\\)%", command) is None  # cron would cut the line there
    shell = command.replace(r"\%", "%")
    # What is not here is replaced: the checkout, and the submission, by a program that shows what it is given.
    show = tmp_path / "ray"
    show.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    show.chmod(0o755)
    shell = shell.replace("cd lift3d && .venv/bin/ray", str(show))
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True, env={**os.environ})
    words = done.stdout.split()
    assert re.fullmatch(r"label-\d{4}-\d\d-\d\d", words[words.index("--submission-id") + 1])
    script, *options = words[words.index("--") + 2 :]
    assert (ROOT / script).is_file()
    options = [str(sample_room) if word == "s3://bucket/scannet" else word for word in options]
    options = [str(tmp_path / "labels") if word == "s3://bucket/labels" else word for word in options]
    options[options.index("indoor")] = "pipeline.benchmark.engine_data:Bands"
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["label", *options, "--dry-run"])
    assert not ended.value.code
    assert '"frames_to_do": 24' in capfd.readouterr().out


def test_what_rayignore_leaves_out_is_no_part_of_the_packages():
    """A pattern without a leading slash holds in every folder."""
    lines = (ROOT / ".rayignore").read_text("utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    names = {
        part
        for top in ("schemas", "lift3d_model", "pipeline", "jobs")
        for path in (ROOT / top).rglob("*")
        for part in path.relative_to(ROOT).parts
        if "__pycache__" not in path.parts
    }
    assert "/data" in patterns
    assert not names & set(patterns)
