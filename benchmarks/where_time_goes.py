"""The chapter's job -> wall and CPU seconds of each stage: start-up until the first batch, an epoch, the end.

    python benchmarks/where_time_goes.py [--epochs 5]

It times the imports and calls of `python -m gluon_lenet.train` one by one, in the same order. CPU seconds are those of
all threads: on a busy machine they are more reliable than wall seconds. Then it times the optimizer's step, alternately
by MXNet and by the kernels. The first run on a machine also compiles the kernels. The results are written to
benchmarks/results/where_time_goes.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout's package

RESULTS = Path(__file__).resolve().parent / "results" / "where_time_goes.json"


class Clock:
    """Wall and CPU seconds, summed by name."""

    def __init__(self):
        self.seconds = {}
        self.began = self.now()

    @staticmethod
    def now() -> tuple[float, float]:
        """Current wall and CPU seconds."""
        return time.perf_counter(), time.process_time()

    def lap(self, name: str) -> None:
        """Add the time since the last lap to `name`."""
        now = self.now()
        wall, cpu = self.seconds.get(name, (0.0, 0.0))
        self.seconds[name] = (wall + now[0] - self.began[0], cpu + now[1] - self.began[1])
        self.began = now

    def around(self, name: str, function):
        """Wrap the function: its time is added to `name`, the time before it to "the loop itself"."""

        def timed(*args, **kwargs):
            self.lap("the loop itself")
            result = function(*args, **kwargs)
            self.lap(name)
            return result

        return timed

    def rounded(self) -> dict:
        """The sums so far."""
        return {name: {"wall": round(wall, 4), "cpu": round(cpu, 4)} for name, (wall, cpu) in self.seconds.items()}


def steps_of(trainer, turns: int = 500) -> dict[str, float]:
    """Median microseconds from `trainer.step` until the weights are ready, with MXNet's updater and the kernels'."""
    import mxnet as mx

    from gluon_lenet.engines.fused.updater import KernelUpdater

    stock = mx.optimizer.Updater(trainer._optimizer)
    updaters = {"by MXNet": stock, "by the kernels": KernelUpdater(stock)}
    microseconds = {name: [] for name in updaters}
    for _ in range(turns):
        for name, updater in updaters.items():
            trainer._updaters[0] = updater
            for parameter in trainer._params:
                parameter.data()._fresh_grad = True
            start = time.perf_counter()
            trainer.step(256)
            mx.nd.waitall()
            microseconds[name].append((time.perf_counter() - start) * 1e6)
    return {name: round(statistics.median(values)) for name, values in microseconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    num_epochs = parser.parse_args().epochs

    clock = Clock()
    for module in ("gluon_lenet", "mxnet", "gluon_lenet.training.run", "gluon_lenet.engines.fused.engine"):
        import_module(module)
        clock.lap(f"import {module}")
    import mxnet as mx

    from gluon_lenet.compat import threads
    from gluon_lenet.engines import base
    from gluon_lenet.engines.fused import compiled
    from gluon_lenet.training.recipes import DEFAULT_RECIPE, get_recipe
    from gluon_lenet.training.run import Run
    from gluon_lenet.training.run_dir import RunDir
    from gluon_lenet.training.setup import Setup

    compiled.address()
    clock.lap("load the kernels")
    setup = Setup(DEFAULT_RECIPE, get_recipe(DEFAULT_RECIPE), [mx.cpu()], seed=0)
    clock.lap("read the data, make the net")

    with tempfile.TemporaryDirectory() as folder:
        with RunDir.create(Path(folder, "run"), DEFAULT_RECIPE) as directory:
            run = Run.create(setup, directory)
        clock.lap("run directory")
        startup, epochs = clock.rounded(), []
        engine, trainer = setup.engine, setup.trainer
        for owner, method, name in (
            (engine, "backprop", "kernels"),
            (base, "update", "trainer.step"),
            (engine, "evaluate", "test pass"),
        ):
            setattr(owner, method, clock.around(name, getattr(owner, method)))
        clock.seconds, clock.began = {}, clock.now()
        for result in setup.loop().epochs(setup.data, num_epochs):
            clock.lap("the loop itself")
            epochs.append(clock.rounded())
            run.history.append(result)
            clock.seconds, clock.began = {}, clock.now()
        figures, files = (import_module(f"gluon_lenet.viz.{name}") for name in ("figures", "files"))
        clock.lap("import matplotlib")
        files.write_picture(figures.curves(run.history, DEFAULT_RECIPE), Path(folder, "curves.png"))
        clock.lap("draw the curves")

    median = {
        name: {kind: round(statistics.median(epoch[name][kind] for epoch in epochs), 4) for kind in ("wall", "cpu")}
        for name in epochs[0]
    }
    result = {
        "command": f"python benchmarks/where_time_goes.py --epochs {num_epochs}",
        "to the first batch": startup,
        "an epoch, median": median,
        "after the last epoch": clock.rounded(),
        "a step of the optimizer, median microseconds": steps_of(trainer),
        "threads": threads.num_threads(),
        "load average": round(os.getloadavg()[0], 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    for stage in ("to the first batch", "an epoch, median", "after the last epoch"):
        print(f"{stage:40}{'wall':>8}{'CPU':>8}")
        for name, seconds in result[stage].items():
            print(f"  {name:38}{seconds['wall']:8.3f}{seconds['cpu']:8.3f}")
        wall, cpu = (sum(seconds[kind] for seconds in result[stage].values()) for kind in ("wall", "cpu"))
        print(f"  {'sum':38}{wall:8.3f}{cpu:8.3f}")
    print(result["a step of the optimizer, median microseconds"])


if __name__ == "__main__":
    main()
