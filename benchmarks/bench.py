"""Frameworks doing the same job, interleaved in rounds -> tables and plots in benchmarks/results/ and docs/results.md.

    make bench                         everything, in a quarter of an hour; only this writes results/ and docs/
    make bench ARGS="--quick"          one round of everything, into build/bench/
    make bench ARGS="--parts recipes"  some parts, into build/bench/; also --only torch

README.md in this folder describes what is measured and how it is kept fair.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import llvmlite.binding
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout's package

import report
from gluon_lenet.compat.threads import physical_cores
from gluon_lenet.data.datasets import load_dataset
from gluon_lenet.training.recipes import DEFAULT_RECIPE, RECIPES, Recipe
from gluon_lenet.training.settings import Cosine, CrossEntropy
from report import AUGMENTED, CHANNELS_LAST, D2LZH, OURS, READER, SCRIPT
from reproduce import PAGES, READMES, ROOT, insert

WORKERS = ROOT / "benchmarks" / "workers"
RESULTS = ROOT / "benchmarks" / "results"
FRAMEWORKS = ROOT / ".venv-bench"  # one virtual environment per framework, made by `make bench`
PARTS = ("chapter", "jobs", "recipes", "scaling")
JOB_EPOCHS = RECIPES[DEFAULT_RECIPE].num_epochs


@dataclass(frozen=True)
class Contender:
    """A worker script, its mode, and the framework whose virtual environment it needs, if any."""

    script: str
    mode: str
    framework: str | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> str:
        """The Python that has the framework."""
        return str(FRAMEWORKS / self.framework / "bin" / "python") if self.framework else sys.executable


def lesser_processor(*hidden: str) -> dict[str, str]:
    """Environment variables that make Numba ignore the processor features whose names begin with one of `hidden`."""
    features = llvmlite.binding.get_host_cpu_features()
    seen = (f"{'+' if has and not name.startswith(hidden) else '-'}{name}" for name, has in sorted(features.items()))
    return {"NUMBA_CPU_FEATURES": ",".join(seen)}


CONTENDERS = {
    OURS: Contender("ours.py", "fused"),
    "gluon_lenet, fused, AVX2": Contender("ours.py", "fused", environment=lesser_processor("avx512")),
    "gluon_lenet, autograd": Contender("ours.py", "autograd"),
    READER: Contender("readers_loop.py", "accelerate"),
    D2LZH: Contender("with_d2lzh.py", "train_ch5"),
    "a reader's loop, plain Gluon": Contender("readers_loop.py", "mxnet"),
    "Gluon, hybridized": Contender("with_gluon.py", "hybridized"),
    "PyTorch eager": Contender("with_torch.py", "eager", "torch"),
    CHANNELS_LAST: Contender("with_torch.py", "channels_last", "torch"),
    "PyTorch compile": Contender("with_torch.py", "compile", "torch"),
    "TensorFlow tf.function": Contender("with_tensorflow.py", "function", "tensorflow"),
    "Keras fit": Contender("with_tensorflow.py", "fit", "tensorflow"),
    "JAX": Contender("with_jax.py", "jit", "jax"),
}
SGEMM = (OURS, CHANNELS_LAST)  # contenders whose matrix products are timed: NumPy's OpenBLAS, PyTorch's library


class LeftOut(Exception):
    """A contender cannot take part; the message says why."""


class Worker:
    """A contender's process. It is stopped, with its threads and children, except while it answers a request."""

    def __init__(self, contender: Contender, job: Path, threads: int):
        failed = FRAMEWORKS / f"{contender.framework}.failed"
        if contender.framework and not os.path.exists(contender.python):
            reason = failed.read_text().strip().splitlines()[-1:] if failed.exists() else ["run `make bench`"]
            raise LeftOut(f"{contender.framework} is not installed: {''.join(reason)}")
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed in end()
        self.process = subprocess.Popen(
            [contender.python, WORKERS / contender.script, contender.mode, job],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=environment(threads) | contender.environment,
            preexec_fn=lambda: (os.setpgrp(), bind(threads)),  # a process group, to stop it as a whole
        )
        try:
            self.versions = self._answer()
        except LeftOut:
            self.end()
            raise

    def ask(self, request: str):
        """Continue the process, send the request, wait for the answer, and stop the process again."""
        os.killpg(self.process.pid, signal.SIGCONT)
        print(request, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise LeftOut((self.errors.read().strip().splitlines() or ["it ended without a message"])[-1])
        os.killpg(self.process.pid, signal.SIGSTOP)
        return json.loads(line)

    def end(self) -> None:
        """End the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        self.errors.close()


def environment(threads: int) -> dict[str, str]:
    """The environment of a process that uses this number of threads."""
    names = ("OMP_NUM_THREADS", "MXNET_OMP_MAX_THREADS", "OPENBLAS_NUM_THREADS")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, **dict.fromkeys(names, str(threads)), **quiet, "PYTHONPATH": str(ROOT)}


def bind(threads: int) -> None:
    """Bind this process to `threads` processors: some frameworks count processors and ignore the environment."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


@contextlib.contextmanager
def workers(wanted: dict[str, tuple[Contender, Path, int]], left_out: dict[str, str]):
    """Start a worker for each (contender, job, threads); `left_out` gets the reasons of those that cannot start."""
    started = {}
    try:
        for name, arguments in wanted.items():
            try:
                started[name] = Worker(*arguments)
                say(f"  started {name}")
            except LeftOut as reason:
                left_out[name] = str(reason)
                say(f"{name} is left out: {reason}")
        yield started
    finally:
        for worker in started.values():
            worker.end()


def interleave(started: dict[str, Worker], rounds: int, left_out: dict[str, str], requests=("epoch",)) -> dict:
    """Ask every worker in turn, `rounds` times after a warm-up round: name -> request -> the answers."""
    answers = {name: {request: [] for request in requests} for name in started}
    for number in range(rounds + 1):
        for name, worker in list(started.items()):
            try:
                for request in requests:
                    answer = worker.ask(request)
                    if number:
                        answers[name][request].append(answer)
                    if request == "epoch":
                        say(f"  {number or 'warm-up'}: {name}: {answer['seconds']:.2f} s with the test pass")
            except LeftOut as reason:
                left_out[name] = str(reason)
                say(f"{name} is left out: {reason}")
                started.pop(name).end()
                answers.pop(name)
    return answers


# --- jobs -------------------------------------------------------------------------------------------------------------


class Jobs:
    """Writes the jobs and the data for the workers as files in a folder."""

    def __init__(self, folder: str, num_images: int | None = None):
        self.folder, self.num_images = Path(folder), num_images

    def write(self, recipe: str, copies: int = 1, **changes) -> Path:
        """The job of a recipe, its training set repeated `copies` times, with settings changed by `changes`."""
        settings = replace(RECIPES[recipe], **changes)
        data = self._data(settings, copies)
        job = {
            "recipe": recipe,
            "net": settings.net,
            "layers": layers_of(settings),
            "resized": f"_{settings.transform.resize}" if settings.transform.resize else "",
            "folder": str(data),
            "num_train": len(np.load(data / "train_labels.npy")),
            "num_test": len(np.load(data / "test_labels.npy")),
            "seed": 0,
            "smoothing": settings.loss.smoothing,
            "cosine": settings.num_epochs if isinstance(settings.schedule, Cosine) else None,  # epochs
        }
        job |= {name: getattr(settings, name) for name in ("batch_size", "optimizer", "lr", "momentum")}
        job |= {name: getattr(settings.transform, name) for name in ("mean", "std")}
        path = self.folder / f"{recipe}-{settings.batch_size}-{copies}.json"
        path.write_text(json.dumps(job))
        return path

    def _data(self, settings: Recipe, copies: int) -> Path:
        folder = self.folder / f"{settings.dataset}-{copies}-{settings.transform.resize}"
        if folder.exists():
            return folder
        folder.mkdir()
        data = load_dataset(settings.dataset)
        for part in ("train", "test"):
            images, labels = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
            if part == "train":
                images = np.concatenate([images[: self.num_images]] * copies)
                labels = np.concatenate([labels[: self.num_images]] * copies)
            np.save(folder / f"{part}_images.npy", images)
            np.save(folder / f"{part}_labels.npy", labels)
            if settings.transform.resize:
                path = folder / f"{part}_images_{settings.transform.resize}.npy"
                np.save(path, settings.transform.resized(images))
        return folder


def num_train(job: Path) -> int:
    """The number of training images of a job."""
    return json.loads(job.read_text())["num_train"]


def layers_of(settings: Recipe) -> list[list]:
    """The recipe's net as rows for other frameworks: ["conv", channels in, out, kernel, padding], ["max", 2], ..."""
    from mxnet import nd
    from mxnet.gluon import nn

    from gluon_lenet.nets.zoo import INPUT_SHAPES, get_net

    net, rows = get_net(settings.net), []
    net.initialize()
    net(nd.zeros((1, *INPUT_SHAPES[settings.net])))
    for block in net:
        if isinstance(block, nn.Conv2D):
            channels_out, channels_in, kernel, _ = block.weight.shape
            rows.append(["conv", channels_in, channels_out, kernel, block._kwargs["pad"][0]])
        elif isinstance(block, nn.Dense):
            if ["flatten"] not in rows:
                rows.append(["flatten"])
            rows.append(["dense", *reversed(block.weight.shape)])
        elif isinstance(block, nn.MaxPool2D | nn.AvgPool2D):
            rows.append([block._kwargs["pool_type"], block._kwargs["kernel"][0]])
        if getattr(block, "act", None) is not None:
            rows.append([block.act._act_type])
    return rows


def flops(layers: list[list], side: int) -> int:
    """Floating-point operations of training on one image of `side` pixels, counting only multiply-adds.

    Forward pass, gradient of the weights and gradient of the input take the same number in each layer. The first layer
    needs no gradient of its input, the image.
    """
    multiply_adds = []
    for kind, *sizes in layers:
        if kind == "conv":
            channels_in, channels_out, kernel, padding = sizes
            side = side + 2 * padding - kernel + 1
            multiply_adds.append(channels_in * channels_out * kernel**2 * side**2)
        elif kind in ("max", "avg"):
            side //= sizes[0]
        elif kind == "dense":
            multiply_adds.append(sizes[0] * sizes[1])
    return 2 * (3 * sum(multiply_adds) - multiply_adds[0])


# --- what is measured -------------------------------------------------------------------------------------------------


def chapter(jobs: Jobs, contenders: dict, threads: int, rounds: int, left_out: dict) -> dict:
    """The chapter's recipe with every contender: epochs, inference, memory, and sgemm's peak."""
    job = jobs.write(DEFAULT_RECIPE)
    say("chapter: an epoch and inference, every contender in turn")
    wanted = {name: (contender, job, threads) for name, contender in contenders.items()}
    with workers(wanted, left_out) as started:
        versions = {name: worker.versions for name, worker in started.items()}
        answers = interleave(started, rounds, left_out, ("epoch", "infer 1", "infer 1000"))
        memory = {name: started[name].ask("memory") for name in answers}
        sgemm = {name: started[name].ask("sgemm") for name in SGEMM if name in started}
    layers = json.loads(job.read_text())["layers"]
    return {
        "epochs": {name: given["epoch"] for name, given in answers.items()},
        "inference": {name: {n: given[f"infer {n}"] for n in ("1", "1000")} for name, given in answers.items()},
        "memory": memory,
        "sgemm": sgemm,
        "flop_an_epoch": flops(layers, 28) * num_train(job),
        "versions": versions,
    }


def whole_jobs(jobs: Jobs, contenders: dict, threads: int, rounds: int, left_out: dict) -> dict:
    """Seconds that whole commands take for the chapter's job: imports, and five epochs with their test passes."""
    job = jobs.write(DEFAULT_RECIPE)
    train = [sys.executable, "-m", "gluon_lenet.train", "--recipe", DEFAULT_RECIPE, "--run-dir"]
    commands, settings = {}, {}
    for name, contender in contenders.items():
        settings[name] = environment(threads) | contender.environment
        if contender.script == "ours.py":
            commands[name] = [*train, "RUN_DIR", "--backprop", contender.mode]
        elif name not in left_out:
            script = WORKERS / contender.script
            commands[name] = [contender.python, script, contender.mode, job, "--epochs", str(JOB_EPOCHS)]
    commands[SCRIPT], settings[SCRIPT] = [sys.executable, WORKERS / "chapter.py"], environment(threads)
    seconds = {name: [] for name in commands}
    for number in range(rounds):
        say(f"jobs: prompt to prompt, round {number + 1} of {rounds}")
        for other in [name for name in commands if name != OURS]:
            for name in (other, OURS):  # ours takes the least time, so it is run once next to each of the others
                seconds[name].append(prompt_to_prompt(commands[name], settings[name], threads, jobs.folder))
                say(f"  {name}: {seconds[name][-1]:.1f} s")
    return seconds


def prompt_to_prompt(command: list, settings: dict[str, str], threads: int, scratch: Path) -> float:
    """The seconds that a command takes in a new folder, with these environment variables."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        command = [str(part).replace("RUN_DIR", f"{folder}/run") for part in command]
        start = time.perf_counter()
        done = subprocess.run(
            command, cwd=folder, env=settings, preexec_fn=lambda: bind(threads), capture_output=True, text=True
        )
        taken = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr}")
    return taken


def recipes(jobs: Jobs, contenders: dict, threads: int, rounds: int, left_out: dict) -> dict:
    """Epochs of every other sequential recipe, ours and PyTorch channels_last, without augmentation; ours also with."""
    results = {}
    for recipe, settings in RECIPES.items():
        if recipe == DEFAULT_RECIPE or not isinstance(settings.loss, CrossEntropy):
            continue
        say(f"recipes: {recipe}")
        job = jobs.write(recipe)
        compared = {name: CONTENDERS[name] for name in (OURS, CHANNELS_LAST) if name in contenders}
        if settings.augment:
            compared[AUGMENTED] = Contender("ours.py", "augmented")
        with workers({name: (each, job, threads) for name, each in compared.items()}, left_out) as started:
            answers = interleave(started, min(rounds, 2), left_out)
        results[recipe] = {name: given["epoch"] for name, given in answers.items()}
    return results


def scaling(jobs: Jobs, contenders: dict, threads: int, rounds: int, left_out: dict) -> dict:
    """Epochs of the chapter's recipe by batch size, threads and size of the training set, with the memory."""
    others = [name for name in (CHANNELS_LAST, "TensorFlow tf.function") if name in contenders]
    chapter = jobs.write(DEFAULT_RECIPE)
    sizes = {size: jobs.write(DEFAULT_RECIPE, batch_size=size) for size in (16, 64, 256, 1024)}
    repeated = [jobs.write(DEFAULT_RECIPE, copies=copies) for copies in (1, 2, 4)]
    counts = sorted({2**power for power in range(threads.bit_length()) if 2**power <= threads} | {threads})
    wanted = {
        "batch size": [(name, size, job, threads) for size, job in sizes.items() for name in (OURS, *others[:1])],
        "threads": [(name, count, chapter, count) for count in counts for name in (OURS, *others)],
        "training images": [(OURS, num_train(job), job, threads) for job in repeated],
    }
    results = {}
    for what, points in wanted.items():
        say(f"scaling: {what}")
        named = {f"{name}, {what} {x}": (name, x, *arguments) for name, x, *arguments in points}
        start = {label: (CONTENDERS[name], *arguments) for label, (name, _, *arguments) in named.items()}
        with workers(start, left_out) as started:
            answers = interleave(started, min(rounds, 2), left_out)
            memory = {label: started[label].ask("memory") for label in answers}
        results[what] = [
            {"name": named[label][0], "x": named[label][1], "epochs": given["epoch"], "memory": memory[label]}
            for label, given in answers.items()
        ]
    return results


def machine(threads: int) -> dict:
    """Where and when the figures were measured."""
    cpuinfo = Path("/proc/cpuinfo")
    models = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cpus": os.cpu_count(),
        "cores": physical_cores(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "load_before": os.getloadavg()[0],
    }


def say(text: str) -> None:
    print(f"[{time.perf_counter() - STARTED:4.0f} s] {text}", file=sys.stderr, flush=True)


STARTED = time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds after the warm-up (default: 3)")
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="WORD", help="only contenders whose name contains a WORD"
    )
    parser.add_argument(
        "--images", type=int, metavar="N", help="train on the first N images only, to test the benchmark"
    )
    parser.add_argument("--threads", type=int, default=physical_cores(), metavar="N", help="default: all cores")
    args = parser.parse_args()
    rounds = 1 if args.quick else args.rounds
    words = [word.lower() for word in args.only]
    contenders = {
        name: contender
        for name, contender in CONTENDERS.items()
        if name == OURS or not words or any(word in name.lower() for word in words)
    }
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # also ends the stopped processes
    results, left_out, machine_now = {}, {}, machine(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        measure = {"chapter": chapter, "jobs": whole_jobs, "recipes": recipes, "scaling": scaling}
        jobs = Jobs(folder, args.images)
        for part in PARTS:
            if part in args.parts:
                share = max(1, rounds // 3) if part == "jobs" else rounds
                results[part] = measure[part](jobs, contenders, args.threads, share, left_out)
    results["left_out"] = left_out
    results["machine"] = machine_now | {"load_after": os.getloadavg()[0], "seconds": time.perf_counter() - STARTED}
    results["command"] = " ".join(["python benchmarks/bench.py", *sys.argv[1:]])
    whole = not (args.quick or args.only or args.images) and set(args.parts) == set(PARTS)
    folder = RESULTS if whole else ROOT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(results, indent=1) + "\n")
    text = report.as_markdown(results)
    (folder / "bench.md").write_text(text + "\n")
    report.plots(results, folder)
    print(text)
    if whole:
        for (page, language), readme in zip(PAGES.items(), READMES, strict=True):
            insert(readme, "speed", report.speed_line(results, language))
            insert(page, "bench", report.chapter_table(results, language))


if __name__ == "__main__":
    main()
