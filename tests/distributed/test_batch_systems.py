"""docs/distributed/: the syntax of the script for Slurm, and the manifest for Kubernetes."""

import os
import subprocess

import pytest
import yaml

from conftest import ROOT
from gluon_lenet.distributed.environment import config_of, rank_of

FOLDER = ROOT / "docs" / "distributed"


@pytest.mark.parametrize("script", sorted(path.name for path in FOLDER.glob("*.sbatch")))
def test_the_scripts_are_right_in_syntax(script):
    subprocess.run(["bash", "-n", FOLDER / script], check=True)


def test_the_manifest_is_whole():
    service, policy, job = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
    assert [part["kind"] for part in (service, policy, job)] == ["Service", "NetworkPolicy", "Job"]
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    environment = {variable["name"]: variable.get("value", "10.0.0.7") for variable in container["env"]}
    workers = job["spec"]["completions"] - 2
    assert job["spec"]["parallelism"] == job["spec"]["completions"]
    assert config_of({**environment, "DMLC_ROLE": "worker"}, "dist_sync", None).workers == workers
    script = container["command"][-1].replace("exec python", "env; exit; python")
    for index in range(workers + 2):
        done = subprocess.run(
            ["bash", "-c", script],
            env={**environment, "PATH": os.environ["PATH"], "JOB_COMPLETION_INDEX": str(index)},
            capture_output=True,
            text=True,
            check=True,
        )
        found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        assert found["DMLC_ROLE"] == ("scheduler", "server", "worker")[min(index, 2)]
        assert rank_of(found) == (None if index < 2 else index - 2)
    assert environment["DMLC_PS_ROOT_URI"] == f"{job['metadata']['name']}-0.{spec['subdomain']}"
    assert service["metadata"]["name"] == spec["subdomain"]
    assert policy["spec"]["podSelector"]["matchLabels"] == service["spec"]["selector"]
