"""Notebooks -> the same notebooks, executed in a clean kernel and checked, with their outputs; `make notebooks`.

    python notebooks/execute.py                   all of them, in place
    python notebooks/execute.py lenet relu        some
    python notebooks/execute.py --check           write nothing; status 1 if more than timings would change
    python notebooks/execute.py --timings         write new timings, too: on a quiet machine

A file is otherwise written only if something besides timings changed. A notebook fails if a cell raises, writes to
stderr (a deprecation, a missing glyph) or prints an address or a path of this machine, or if one of its results is
outside BOUNDS. The output of the cell tagged `picture` is also written to pictures/, for the READMEs: the part of it
that the cell's metadata names as `detail` (left, top, right, bottom, as shares), to be read at a thumbnail's size.
"""

from __future__ import annotations

import argparse
import base64
import copy
import io
import json
import os
import re
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout's package

FOLDER = Path(__file__).resolve().parent
THREADS = "2"  # fixed, because the last bits of a result depend on the number of threads
MOST_SECONDS = 2000  # of CPU time, so that growth is seen: 770 on a machine with AVX-512, others take twice as long

# The allowed range of each expression at the end of a notebook. If the notebook trains a recipe to its last epoch, the
# range is that of seeds 0-4 in benchmarks/results/reproduce.json, widened by 0.02 on both sides; otherwise it is the
# result of the notebook's fewer epochs, rounded outwards.
BOUNDS: dict[str, dict[str, tuple[float, float]]] = {
    "lenet": {
        "np.abs(edges[0, 0].asnumpy() - sliding.result).max()": (0, 1e-5),
        "len(batch_losses)": (1175, 1175),
        "test_accs[-1]": (0.71, 0.78),
        "abs(ours - theirs)": (0, 1e-3),
        "left_plateau": (235, 470),
        "slow_epochs": (6, 60),
    },
    "relu": {
        "num_parameters": (61_706, 61_706),
        "history[0].test_acc": (0.96, 0.98),
        "history[-1].test_acc": (0.97, 0.99),
        "accuracy255": (0.95, 0.99),
        "confident255": (0.98, 1),
        "max(accuracies['SGD']['sigmoid'])": (0.05, 0.3),
        "np.mean(accuracies['Adam']['sigmoid'])": (0.92, 0.945),
        "np.mean(accuracies['SGD']['tanh'])": (0.95, 0.98),
        "np.mean(accuracies['SGD']['relu'])": (0.95, 0.98),
        "interval(accuracies['SGD']['relu'])[1] / interval(accuracies['Adam']['relu'])[1]": (2, 1000),
        "abs(np.mean(by_factor['relu'][0]) - np.mean(by_factor['relu'][1]))": (0, 0.01),
        "np.mean(by_factor['tanh'][0]) - np.mean(by_factor['tanh'][1])": (0.03, 0.3),
        "np.mean(by_factor['sigmoid'][0]) - np.mean(by_factor['sigmoid'][1])": (0.03, 0.3),
    },
    "c1_f6": {
        "rates[0]": (0.03, 0.03),
        "rates[-1]": (0.00029, 0.00031),
        "test_acc": (0.95, 0.99),
        "min(result.test_acc - result.train_acc for result in history)": (0, 0.5),
        "history[2].train_loss - history[3].train_loss": (0.015, 0.1),
        "history[4].train_loss - history[5].train_loss": (0, 0.01),
    },
    "tanh": {
        "history[-1].test_acc": (0.975, 0.992),
        "test_acc": (0.98, 0.992),
        "max(shares[name][0] for name in list(shares)[:2])": (0, 0.2),
        "shares['read_drawing'][0]": (0.82, 0.93),
        "inverted_acc": (0, 0.1),
        "np.mean(results['从头训练']) - np.mean(results['不训练'])": (-0.03, 0.07),
        "np.mean(gains)": (0.02, 0.1),
        "np.mean(results['接着训练']) - np.mean(results['不训练'])": (0.03, 0.15),
        "np.mean(forgotten)": (0, 0.02),
        "abs(augmented[:, 0].mean() - plain[:, 0].mean())": (0, 0.008),
        "augmented[:, 2].mean() - plain[:, 2].mean()": (0.03, 0.1),
        "augmented[:, -1].mean() - plain[:, -1].mean()": (0.1, 0.25),
    },
    "course": {
        "len(history)": (10, 10),
        "history[-1][-1]": (0.75, 0.85),
        "max(abs(ours[0] - theirs.train_loss) for ours, theirs in zip(history, package))": (0, 5e-3),
        "not_waited / waited": (0, 0.5),
        "min(run[0] for runs in accuracies.values() for run in runs)": (0.05, 0.2),
        "min(max(run[1] for run in runs) - min(run[1] for run in runs) for runs in accuracies.values())": (0.2, 0.8),
        "mean": (0.005, 0.08),
        "mean / half": (0.3, 2),
        "min(by_class.values()) - by_class['衬衫']": (0, 0),
    },
    "lenet1998": {
        "sum(old)": (60_000, 60_000),
        "sum(new)": (61_706, 61_706),
        "push[half_way]": (0.11, 0.12),
        "no_rubbish[half_way]": (0.5, 0.5),
        "np.mean([accs[-1] for _, accs in olds])": (0.975, 0.99),
        "np.mean([accs[-1] for _, accs in news])": (0.975, 0.99),
        "both.sum() / by_chance": (5, 100),
        "np.mean(shared['1998 年的两个种子'])": (0.55, 0.75),
        "np.mean(shared['现代变体的两个种子'])": (0.35, 0.55),
        "np.mean(shared['1998 年与现代变体'])": (0.4, 0.6),
        "np.mean(errors['lecun1998_mnist'])": (0.85, 1),
    },
    "inside": {
        "np.mean([histories['sigmoid', seed][-1].test_acc for seed in seeds])": (0.71, 0.78),
        "np.mean([histories['tanh', seed][-1].test_acc for seed in seeds])": (0.84, 0.90),
        "np.mean([histories['relu', seed][-1].test_acc for seed in seeds])": (0.82, 0.90),
        "max(first_to_last('sigmoid', seed) for seed in seeds)": (0, 0.02),
        "min(first_to_last('relu', seed) for seed in seeds)": (0.2, 5),
        "min(ratio)": (0.05, 5),
        "len(common)": (8, 8),
        "max(values.min() for values in covered)": (0, 0.9),
        "min(np.median(values) for values in covered)": (0.7, 1),
        "by_centres(pixels)": (0.4, 0.5),
        "np.mean(untrained)": (0.2, 0.5),
        "np.mean(separated)": (0.55, 0.8),
        "growth": (3, 100),
    },
    "questions": {
        "book[:, -1].mean()": (0.71, 0.78),
        "book_mnist[:, -1].mean()": (0.85, 0.97),
        "np.mean(original)": (0.988, 0.993),
        "relu_rates[0.03][:, -1].mean()": (0.68, 0.75),
        "relu_rates[0.1][:, -1].mean()": (0.74, 0.8),
        "relu_rates[0.3][:, -1].mean()": (0.77, 0.83),
        "np.median(relu_rates[0.9][:, -1])": (0.05, 0.2),
        "np.median(dead[0.9])": (60, 84),
        "max(dead[0.1])": (0, 20),
        "perceptron[:, -1].mean() - book[:, -1].mean()": (0.05, 0.2),
        "tanh[:, -1].mean() - perceptron[:, -1].mean()": (0.005, 0.04),
        "np.median(slow[:, 4])": (0.05, 0.2),
        "slow[:, -1].min()": (0.1, 0.4),
        "slow[:, -1].max()": (0.5, 0.7),
        "relu_mnist[:, -1].mean()": (0.94, 0.97),
        "large": (2, 8),
        "needed": (3, 15),
        "max(worst['最大池化'])": (0, 1e-6),
        "min(worst['平均池化'])": (1e-4, 1),
        "abs(difference[0]) / difference[1]": (0, 1.5),
        "max(accs.mean() for accs in by_style.values()) - min(accs.mean() for accs in by_style.values())": (0, 0.03),
        "np.abs(by_sum - by_mean).max()": (0, 1e-6),
        "np.abs(by_mean).max() / np.abs(mixed).max()": (255, 257),
        "over_images - afterwards": (0.2, 0.5),
        "abs(over_images - over_batches)": (0, 0.005),
        "len(files)": (1, 1),
        "good[-1] == 'worker process is working'": (1, 1),
    },
    "exercises": {
        "start_mean": (0.79, 0.84),
        "start_half": (0.003, 0.03),
        "max(np.mean(runs) for s in results.values() for runs in s.values() if np.mean(runs) < 0.6)": (0.05, 0.2),
        "len(failed)": (3, 3),
        "gains['激活函数', 'tanh'][0] - gains['激活函数', 'tanh'][1]": (0, 0.05),
        "gains['初始化', 'MSRA'][0] - gains['初始化', 'MSRA'][1]": (0, 0.05),
        "gains['学习率', '0.3'][0]": (0.01, 0.04),
        "gains['学习率', '0.01'][0]": (-0.15, -0.05),
        "gains['全连接层', '30, 20'][0]": (-0.05, -0.015),
        "sum(abs(mean) > half for mean, half in gains.values())": (6, 9),
        "winner_acc[0]": (0.85, 0.9),
        "book_acc[0]": (0.72, 0.77),
        "winner_acc[0] - book_acc[0]": (0.1, 0.2),
    },
}

TIMING = re.compile(r"(?<=time )\d+\.\d(?= sec)|\d[\d,]*(?:\.\d+)?(?= examples/sec)|\d[\d,]*(?:\.\d+)?(?= 秒)")
OF_THIS_MACHINE = re.compile(r"\b0x[0-9a-f]{6,}|(?<![\w.])/(?:home|root|tmp|work|usr|opt|var|Users)/\S*")
COLOUR = re.compile(r"\x1b\[[\d;]*m")  # in IPython's tracebacks


class NotebookError(Exception):
    """A notebook failed; the message names the notebook and the cell."""


def main(argv: list[str] | None = None) -> int:
    """Execute the notebooks that `argv` names.

    Returns:
        The exit status: 1 if a notebook failed, if one changed under --check, or if all of them took more than
        MOST_SECONDS; else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="notebooks without .ipynb (default: all)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if anything but timings changes")
    parser.add_argument("--timings", action="store_true", help="write also if only timings changed")
    args = parser.parse_args(argv)
    if args.check and args.timings:
        parser.error("--check writes nothing, so it does not go with --timings")
    unknown = set(args.names) - set(names())
    if unknown:
        parser.error(f"no notebook {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    if args.check:
        os.environ["OMP_WAIT_POLICY"] = "passive"  # a thread that waits awake takes the processor from another notebook
    warm_up()
    status, began = 0, time.perf_counter()

    def said_of(name: str) -> tuple[str, str, float]:
        start = time.perf_counter()
        try:
            said = update(FOLDER / f"{name}.ipynb", BOUNDS.get(name, {}), not args.check, args.timings)
        except NotebookError as error:
            said = f"failed: {error}"
        return name, said, time.perf_counter() - start

    # Two at a time to check them, while one draws the other computes; one, if the times that it prints may be kept.
    with ThreadPoolExecutor(2 if args.check else 1) as pool:
        try:
            for done in as_completed(pool.submit(said_of, name) for name in args.names or names()):
                name, said, lasted = done.result()
                if said.startswith("failed") or (args.check and said == "changed"):
                    status = 1
                print(f"{name}: {said}, {lasted:.1f} s", flush=True)
        except KeyboardInterrupt:  # Python would wait for all notebooks; their kernels end with this process
            os._exit(130)
    seconds = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])  # user and system, of the kernels
    print(f"{time.perf_counter() - began:.0f} s in total, {seconds:.0f} s of CPU time (limit: {MOST_SECONDS} s)")
    return status or int(seconds > MOST_SECONDS)


def names() -> list[str]:
    """The names of the notebooks in this folder, without .ipynb."""
    return sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def warm_up() -> None:
    """Fetch the data and compile the kernels, once per machine: both print to stderr, which fails a notebook."""
    import gluon_lenet
    from gluon_lenet.engines.fused.net import FusedNet

    for name in ("fashion_mnist", "mnist"):
        gluon_lenet.load_dataset(name)
    net = gluon_lenet.lenet()
    net.initialize()
    FusedNet(net).forward(np.zeros((1, 1, 28, 28), np.float32))


def update(path: Path, bounds: dict, write: bool = True, timings: bool = False) -> str:
    """Execute the notebook in `path`, and write it unless only its timings changed; returns what happened, to print.

    Args:
        path: of the notebook.
        bounds: its entry of BOUNDS.
        write: whether to write at all.
        timings: write also if only timings changed.

    Raises:
        NotebookError: the notebook failed.
    """
    old = nbformat.read(path, as_version=4)
    new = execute(old, path.stem, bounds, path.parent)
    if without_timings(new) == without_timings(old) and not timings:
        if write and not pictures_are_there(new, path):
            write_pictures(new, path)
            return "pictures written"
        return "unchanged but for timings"
    if write:
        nbformat.write(new, path)
        write_pictures(new, path)
        return "written"
    # Another kind of CPU or another Numba sums in another order; after five epochs of SGD, a difference in the last bit
    # becomes visible.
    where = [{key: notebook.metadata.get(key) for key in ("cpu", "python")} for notebook in (old, new)]
    return "changed" if where[0] == where[1] else "runs; its stored outputs are from another CPU or Python"


def execute(notebook: nbformat.NotebookNode, name: str, bounds: dict, folder: Path) -> nbformat.NotebookNode:
    """Run the notebook in a clean kernel, in `folder`; returns a copy with the new outputs.

    Raises:
        NotebookError: the notebook failed.
    """
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    whole = copy.deepcopy(notebook)
    expressions = ", ".join(f"{expression!r}: float({expression})" for expression in bounds)
    whole.cells.append(nbformat.v4.new_code_cell(f"import json; print(json.dumps({{{expressions}}}))"))
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MPLBACKEND")}
    environment |= {
        "OMP_NUM_THREADS": THREADS,
        # By default Python shows only the deprecation warnings of the notebook's own cells; this adds those of the
        # libraries, except MXNet's for the way it compares versions.
        "PYTHONWARNINGS": "always::DeprecationWarning,always::FutureWarning,"
        "ignore:distutils Version classes are deprecated:DeprecationWarning",
    }
    client = NotebookClient(
        whole,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,  # otherwise timing decides into how many outputs the printed text is split
        extra_arguments=["--log-level=40"],
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute(env=environment)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise NotebookError(f"{name}.ipynb: a cell raised {COLOUR.sub('', str(error))}") from None
    numbers = json.loads(whole.cells.pop().outputs[0].text)
    for cell in whole.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)  # nothing without its kernel
        check(cell, name)
    for expression, (low, high) in bounds.items():
        if not low <= numbers[expression] <= high:
            raise NotebookError(f"{name}.ipynb: {expression} is {numbers[expression]:g}, not in {low} to {high}")
    import llvmlite.binding

    whole.metadata = {
        "cpu": llvmlite.binding.get_host_cpu_name(),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",  # decides Numba's version
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return whole


def check(cell, name: str) -> None:
    """Raise NotebookError if the cell's outputs must not be stored."""
    for output in cell.get("outputs", []):
        text = _text(output)
        failed = output.get("output_type") == "error"  # in a script that `%run` runs: the cell itself does not fail
        if failed or output.get("name") == "stderr" or "Traceback (most recent call last)" in text:
            raise NotebookError(f"{name}.ipynb, cell {cell.id}: {text}")
        if found := OF_THIS_MACHINE.search(text):
            raise NotebookError(f"{name}.ipynb, cell {cell.id}: prints {found[0]}, which is specific to this machine")


def _text(output) -> str:
    """The text of an output."""
    if "evalue" in output:
        return f"{output.ename}: {output.evalue}"
    return output.get("text", "") or "\n".join(
        value for kind, value in output.get("data", {}).items() if kind.startswith("text/")
    )


def without_timings(notebook: nbformat.NotebookNode) -> str:
    """The notebook as text, with `_` in place of every timing."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "text" in output:
                output.text = TIMING.sub("_", output.text)
    return nbformat.writes(notebook)


def pictures(notebook: nbformat.NotebookNode, path: Path) -> dict[Path, Image.Image]:
    """File -> the picture to write to it, for the cells tagged `picture`."""
    found = {}
    for cell in notebook.cells:
        if "picture" in cell.metadata.get("tags", []):
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    whole = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).convert("RGB")
                    shares = zip(cell.metadata.get("detail", (0, 0, 1, 1)), 2 * whole.size, strict=True)
                    found[path.parent / "pictures" / f"{path.stem}.png"] = whole.crop(
                        [round(share * size) for share, size in shares]
                    )
    return found


def pictures_are_there(notebook: nbformat.NotebookNode, path: Path) -> bool:
    """Whether the files of the pictures exist and show the same as the notebook."""
    return all(
        file.exists() and np.array_equal(Image.open(file).convert("RGB"), picture)
        for file, picture in pictures(notebook, path).items()
    )


def write_pictures(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write the notebook's pictures to their files."""
    for file, picture in pictures(notebook, path).items():
        file.parent.mkdir(exist_ok=True)
        picture.save(file, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
