"""docs/distributed/: the scripts for Slurm, run with an srun that is ours, and the manifest for Kubernetes."""

import os
import subprocess
import sys

import pytest
import yaml

from conftest import ROOT, module_env
from gluon_lenet.distributed.environment import config_of, rank_of

FOLDER = ROOT / "docs" / "distributed"

SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for task in $(seq 0 $((SLURM_NTASKS - 1))); do SLURM_PROCID=$task "$@" & tasks+=($!); done
status=0
for task in "${tasks[@]}"; do wait "$task" || status=$?; done
exit $status
"""


@pytest.mark.parametrize("script", sorted(path.name for path in FOLDER.glob("*.sbatch")))
def test_the_scripts_are_right_in_syntax(script):
    subprocess.run(["bash", "-n", FOLDER / script], check=True)


@pytest.mark.distributed
def test_slurm_starts_one_training(tmp_path):
    """The whole script on this machine, with stand-ins for srun and scontrol; then requeued."""
    (tmp_path / "bin").mkdir()
    programs = {"srun": SRUN, "scontrol": "#!/bin/sh\necho localhost\n", "hostname": "#!/bin/sh\necho localhost\n"}
    programs["python"] = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_JOB_NODELIST": "localhost", "SLURM_CPUS_PER_TASK": "1"}
    env = module_env(PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}", **slurm)
    for epochs, more in (("1", {}), ("2", {"SLURM_RESTART_COUNT": "1"})):
        command = ["bash", FOLDER / "train.sbatch", "--epochs", epochs]
        done = subprocess.run(command, cwd=tmp_path, env={**env, **more}, capture_output=True, text=True, timeout=170)
        assert done.returncode == 0, done.stdout + done.stderr
        metrics = tmp_path / "runs" / "slurm-7" / "metrics.jsonl"
        assert len(metrics.read_text().splitlines()) == int(epochs)


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
