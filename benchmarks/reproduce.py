"""Recipes and seeds -> test accuracies with mean and spread, in benchmarks/results/, docs/results.md and the READMEs.

    make reproduce                                            every recipe, seeds 0-4, or as many as SEEDS says
    python benchmarks/reproduce.py d2l_v1_fashion --seeds 3   one recipe, seeds 0-2

A sweep (gluon_lenet/sweeps/) runs a recipe's seeds, each in a process of its own, with the result of `python -m
gluon_lenet.train --recipe NAME --seed N`: by default one at a time with all cores, so that its seconds are those of a
training. Each result is saved at once; a seed that was measured with the current recipe is measured again only with
`--again`.

A recipe that holds out training images is scored with the weights that were best on those images, any other recipe with
the weights of the last epoch. Those of seed 0 go into the package, with a card (gluon_lenet/pretrained/). If the
package lacks them, or has those of other settings, seed 0 is trained again: stored measurements stay, and the new
accuracy must agree with them.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from safetensors.numpy import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout's package

from gluon_lenet.compat.threads import physical_cores
from gluon_lenet.data.augment import HANDWRITING
from gluon_lenet.data.catalogue import get_entry
from gluon_lenet.nets import pretrained
from gluon_lenet.sweeps.run import RUNS, Options, Watcher, sweep
from gluon_lenet.sweeps.trials import Result, Trial
from gluon_lenet.training.recipes import DEFAULT_RECIPE, RECIPES, Recipe, settings_of
from gluon_lenet.training.run_dir import BEST, LAST

ROOT = Path(__file__).resolve().parents[1]
# Augmentation -> further scores of runs that were trained with it, as options of gluon_lenet.evaluate
ALSO = {HANDWRITING: ("--rotate 30", "--invert")}
SEEDS = {"d2l_v1_fashion": 20, "speedrun_mnist": 100}  # of recipes that take seconds
RESULTS = ROOT / "benchmarks" / "results" / "reproduce.json"
READMES = {ROOT / "README.md": "en", ROOT / "README.zh-CN.md": "zh"}  # and their languages
PAGES = {ROOT / "docs" / "results.md": "en", ROOT / "docs" / "results.zh-CN.md": "zh"}
IN_README = ("d2l_v1_fashion", "speedrun_mnist", "best_mnist", "best_fashion")  # the rows that the READMEs show
HEADS = {
    "en": ["recipe", "published", "ours: mean ± standard deviation (min-max) over seeds", "seconds a run", "command"],
    "zh": ["配方", "公布的结果", "我们的结果：各个种子的平均值 ± 标准差（最小-最大）", "一次的秒数", "命令"],
}
PUBLISHED_ZH = {  # what recipes say was published
    "0.757-0.769 test accuracy in published runs": "测试准确率 0.757-0.769，已公布的几次运行",
    "0.763-0.817 test accuracy in five reference runs": "测试准确率 0.763-0.817，五次参考运行",
    "0.9812 test accuracy": "测试准确率 0.9812",
    "none; 0.944-0.959 test accuracy in three reference runs": "无；测试准确率 0.944-0.959，三次参考运行",
    "0.9880 test accuracy": "测试准确率 0.9880",
    "0.95 % test error in the paper, 0.98 % in a reference run": "测试错误率：论文 0.95%，一次参考运行 0.98%",
    "0.80 % test error in the paper": "测试错误率：论文 0.80%",
    "none; 0.9947 test accuracy in a reference run": "无；测试准确率 0.9947，一次参考运行",
    "none on a CPU; on a GPU 0.9904 in 0.76 s": "CPU 上无；GPU 上 0.76 秒达到 0.9904",
    "about 0.995 test accuracy for nets of this size": "这样大小的网络，测试准确率约 0.995",
    "0.925 test accuracy below 100,000 parameters": "参数少于 100,000 的网络，测试准确率 0.925",
    "none; 0.9176 test accuracy in a reference run": "无；测试准确率 0.9176，一次参考运行",
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=list(RECIPES), metavar="RECIPE")
    parser.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N-1 (default: 5, or what SEEDS says)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time, which share the cores")
    parser.add_argument("--again", action="store_true", help="repeat stored measurements")
    args = parser.parse_args(argv)
    unknown = sorted(set(args.recipes) - RECIPES.keys())
    if unknown:
        parser.error(f"unknown recipe {unknown[0]!r}; choose from {', '.join(RECIPES)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in args.recipes:
        if args.again or results.get(name, {}).get("settings") != settings_of(RECIPES[name]):
            results[name] = {"settings": settings_of(RECIPES[name]), "runs": {}}
        runs = results[name]["runs"]
        seeds = map(str, range(args.seeds or SEEDS.get(name, 5)))

        def store(seed: str, run: dict, run_dir: Path, name=name, runs=runs) -> None:
            if seed in runs:
                check_agrees(name, run["test_acc"], [stored["test_acc"] for stored in runs.values()])
            if seed == "0":
                keep(name, run, run_dir, is_new=seed not in runs)
            if seed not in runs:
                runs[seed] = run
                RESULTS.write_text(json.dumps(results, indent=2) + "\n")

        lacking = [seed for seed in seeds if seed not in runs or (seed == "0" and not has_weights(name))]
        measure(name, lacking, args.jobs, store)
        measured = {name: results[name] for name in RECIPES if name in results}
        for page, language in PAGES.items():
            insert(page, "reproduce", as_table(measured, language))
        shown = {name: measured[name] for name in IN_README if name in measured}
        for readme, language in READMES.items():
            insert(readme, "records", as_table(shown, language))
            if name == DEFAULT_RECIPE:
                insert(readme, "train", f"```text\n{results[name]['runs']['0']['printed']}\n```")
    print(as_table(measured))


def measure(name: str, seeds: list[str], jobs: int, store: Callable[[str, dict, Path], None]) -> None:
    """Train `name` with these seeds; `store` gets each seed, its test accuracy and circumstances, and its directory."""
    threads = max(1, physical_cores() // jobs)
    trials = [Trial(name=name, recipe=RECIPES[name], seed=int(seed), threads=threads) for seed in seeds]
    with tempfile.TemporaryDirectory() as folder:
        sweep(trials, folder, Options(jobs, keep=True), Storing(Path(folder, RUNS), store))


class Storing(Watcher):
    """Hands each result of a sweep on as soon as it is there."""

    def __init__(self, runs: Path, store: Callable[[str, dict, Path], None]):
        self.runs, self.store = runs, store

    def result(self, result: Result) -> None:
        """See Watcher; exits if the run failed."""
        name, seed, run_dir = result.name, str(result.seed), self.runs / result.key
        if result.error is not None:
            raise SystemExit(f"error: {name}, seed {seed}: {result.error}")
        print(
            f"{name}, seed {seed}: {result.best.test_acc:.4f} after epoch {result.best.epoch}, {result.seconds:.1f} s",
            flush=True,
        )
        printed = result.printed.replace(str(run_dir), f"runs/{name}-{time.strftime('%Y%m%d-%H%M%S')}")
        run = {
            "test_acc": result.best.test_acc,
            "also": {options: score(run_dir, options) for options in ALSO.get(RECIPES[name].augment, ())},
            "epoch": result.best.epoch,
            "seconds": result.seconds,
            "threads": result.threads,
            "versions": result.versions,
            "machine": result.machine,
            **({"printed": printed} if seed == "0" else {}),
        }
        self.store(seed, run, run_dir)


def has_weights(name: str) -> bool:
    """Whether the package has weights of the current recipe."""
    if name not in pretrained.recipes():
        return False
    settings = pretrained.read_card(name).settings
    return settings_of(msgspec.convert(settings, Recipe)) == settings_of(RECIPES[name])


def check_agrees(name: str, test_acc: float, stored: list[float]) -> None:
    """Exit if a recipe gives another accuracy than when it was measured, by more than seeds differ from each other.

    The last bits of a training depend on the processor and on the order of the kernels' sums; the accuracy by some
    images.
    """
    slack = max(max(stored) - min(stored), 0.002)
    if not min(stored) - slack <= test_acc <= max(stored) + slack:
        raise SystemExit(
            f"error: {name}: {test_acc:.4f} does not agree with the stored {min(stored):.4f}-{max(stored):.4f}; "
            f"measure all seeds anew: make reproduce ARGS='{name} --again'"
        )


def keep(name: str, run: dict, run_dir: Path, is_new: bool) -> None:
    """Keep what is shown of seed 0: its weights, which go into the package, and of a new measurement its curves."""
    if is_new:
        shutil.copyfile(run_dir / "curves.png", RESULTS.with_name(f"{name}.png"))
    config = json.loads((run_dir / "config.json").read_text())
    images = next(file for file in get_entry(RECIPES[name].dataset).files if file.name.startswith("t10k-images"))
    card = pretrained.Card(
        recipe=name,
        net=RECIPES[name].net,
        dataset=RECIPES[name].dataset,
        seed=0,
        epoch=run["epoch"],
        num_correct=round(run["test_acc"] * images.shape[0]),
        num_examples=images.shape[0],
        command=f"python -m gluon_lenet.train --recipe {name} --seed 0",
        settings=config["settings"],
        data_sha256=config["data_sha256"],
        versions=config["versions"],
        sha256="",  # `save` sets it
    )
    file = run_dir / (BEST if (run_dir / BEST).exists() else LAST)
    arrays = load_file(file)
    pretrained.save(
        card, {key.removeprefix("weights/"): array for key, array in arrays.items() if key.startswith("weights/")}
    )


def score(run_dir: Path, options: str) -> float:
    """The accuracy of a run on its test set, with the `options` of gluon_lenet.evaluate."""
    command = [sys.executable, "-m", "gluon_lenet.evaluate", "--json", "--run", run_dir, *options.split()]
    return json.loads(subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE).stdout)["accuracy"]


def as_table(results: dict, language: str = "en") -> str:
    """The results as a Markdown table, one row per recipe; as test error in per cent if that was published.

    Args:
        results: recipe -> what is stored of it.
        language: of the table, en or zh.
    """
    chinese = language == "zh"
    lines = [f"| {' | '.join(HEADS[language])} |", "|---|---|---|---|---|"]
    for name, result in results.items():
        runs, published = list(result["runs"].values()), RECIPES[name].published
        if "error" in published:
            numbers = spread([100 - 100 * run["test_acc"] for run in runs], 2)
            ours = f"测试错误率 {numbers}%" if chinese else f"{numbers} % test error"
        else:
            ours = f"{spread([run['test_acc'] for run in runs], 4)}"
        num_seeds, command = len(runs), f"`python benchmarks/reproduce.py {name} --seeds {len(runs)}`"
        seconds = f"{statistics.median(run['seconds'] for run in runs):.0f}"
        seeds = f"，{num_seeds} 个种子" if chinese else f", {num_seeds} seed{'s' * (num_seeds > 1)}"
        published = PUBLISHED_ZH[published] if chinese else published
        lines.append(f"| `{name}` | {published} | {ours}{seeds} | {seconds} | {command} |")
        for options in runs[0].get("also", ()):
            ours = spread([run["also"][options] for run in runs], 4)
            row = f"同上，`evaluate {options}` | 无" if chinese else f"the same, `evaluate {options}` | none"
            lines.append(f"| {row} | {ours}{seeds} | | {command} |")
    return "\n".join(lines)


def spread(numbers: list[float], digits: int) -> str:
    """`0.7451 ± 0.0083 (0.7328-0.7535)`; a single number unchanged."""
    mean, low, high = (f"{number:.{digits}f}" for number in (statistics.mean(numbers), min(numbers), max(numbers)))
    return f"{mean} ± {statistics.stdev(numbers):.{digits}f} ({low}-{high})" if len(numbers) > 1 else mean


def insert(page: Path, mark: str, content: str) -> None:
    """Put `content` between the marks <!-- mark --> and <!-- /mark --> of a page."""
    text = page.read_text(encoding="utf-8")
    marked = rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)"
    new, count = re.subn(marked, lambda match: f"{match[1]}{content}\n{match[2]}", text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{page.name} must hold one pair of <!-- {mark} --> marks, not {count}")
    page.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
