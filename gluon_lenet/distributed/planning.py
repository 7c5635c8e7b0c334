"""The launcher's arguments and the training's -> a plan that has been checked, before anything is started."""

from __future__ import annotations

import time
from argparse import Namespace
from collections import Counter

import mxnet as mx

from gluon_lenet.compat.threads import physical_cores
from gluon_lenet.distributed.hosts import Host, place, read_hosts
from gluon_lenet.distributed.supervision import Plan
from gluon_lenet.errors import InputError
from gluon_lenet.training.recipes import DEFAULT_RECIPE, FOLDER_RECIPE, get_recipe
from gluon_lenet.training.run_dir import RunDir


def make_plan(args: Namespace, training: Namespace) -> Plan:
    """What `gluon_lenet.launch` starts.

    Args:
        args: its own arguments; `args.train` are those of the training.
        training: the same, parsed.

    Raises:
        InputError: this MXNet has no parameter server, or arguments contradict each other or the host file.
    """
    if not mx.runtime.Features().is_enabled("DIST_KVSTORE"):
        raise InputError(
            "this machine's MXNet has no parameter server (that for ARM is built without ps-lite); share batches among "
            "contexts instead: python -m gluon_lenet.train --ctx 'cpu(0),cpu(1)'"
        )
    is_exact = training.kvstore == "dist_sync" and training.gradient_compression is None
    if args.max_restarts and not is_exact:
        raise InputError("--max-restarts needs dist_sync without compression: no checkpoint holds what others lose")
    hosts = [Host()] if args.hosts is None else read_hosts(args.hosts, args.tunnel)
    placed = place(hosts, args.workers, args.servers)
    command = ["-m", "gluon_lenet.train", "--kvstore", training.kvstore, *args.train]
    threads = training.threads
    if training.resume is not None:
        with RunDir(training.resume).lock() as directory:
            config = directory.read_config()
        threads, batch_size = config.threads, config.settings.batch_size
    else:
        name = training.recipe or (DEFAULT_RECIPE if training.dataset is None else FOLDER_RECIPE)
        recipe = get_recipe(name)
        # a folder's may be smaller: the workers find out
        batch_size = training.batch_size or recipe.batch_size
        if training.run_dir is None:
            command += ["--run-dir", f"runs/{name}-{time.strftime('%Y%m%d-%H%M%S')}"]
    num_workers = sum(name.startswith("worker") for name, _ in placed)
    if batch_size < num_workers:
        raise InputError(f"batch size {batch_size} is too small for {num_workers} workers")
    most = max(Counter(host for name, host in placed if name.startswith("worker")).values())
    return Plan(
        placed=placed,
        command=command,
        threads=threads or max(1, physical_cores() // most),
        port=args.port,
        stall=args.stall,
        ssh=args.ssh,
        tunnel=args.tunnel,
    )
