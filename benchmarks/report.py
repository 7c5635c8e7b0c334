"""What bench.py measured (bench.json) -> Markdown tables and plots."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from matplotlib.figure import Figure

from gluon_lenet.viz.files import write_picture
from gluon_lenet.viz.fonts import chinese

# The contenders that the tables refer to by name.
OURS, D2LZH, CHANNELS_LAST = "gluon_lenet, fused", "d2lzh", "PyTorch channels_last"
SCRIPT, READER = "gluon_lenet, the chapter's script", "a reader's loop, accelerated"
AUGMENTED = "gluon_lenet, fused, augmented"
CHAPTER_HEADS = {
    "en": [
        *("training, s/epoch", "with test pass", "ours faster: training", "with test pass", "whole job, s"),
        *("images/s, 1 at a time", "1,000 at a time", "peak MiB", "of sgemm's peak", "test acc"),
    ],
    "zh": [
        *("训练，秒/迭代周期", "加上测试", "我们快几倍：训练", "加上测试", "整个任务，秒"),
        *("每秒图像数，一次 1 张", "一次 1,000 张", "内存峰值 MiB", "占 sgemm 峰值", "测试准确率"),
    ],
}
NAMES_ZH = {
    OURS: "gluon_lenet，专用内核",
    "gluon_lenet, fused, AVX2": "gluon_lenet，专用内核，AVX2",
    "gluon_lenet, autograd": "gluon_lenet，autograd",
    "Gluon, hybridized": "Gluon，hybridize 之后",
    READER: "自己写的循环，加速",
    "a reader's loop, plain Gluon": "自己写的循环，原来的 Gluon",
}


def as_markdown(results: dict) -> str:
    """All tables, with their headings and texts."""
    parts = ["# Results of bench.py", machine_line(results)]
    if "chapter" in results:
        parts += ["## The chapter's recipe", chapter_table(results), sgemm_line(results["chapter"])]
    if "jobs" in results:
        parts += ["## From prompt to prompt", jobs_table(results["jobs"])]
    if "recipes" in results:
        parts += ["## The other sequential recipes", recipes_table(results["recipes"])]
    if "scaling" in results:
        parts += [
            "## Scaling",
            "![Scaling](bench_scaling.png)",
            *(scaling_table(what, points) for what, points in results["scaling"].items()),
        ]
    return "\n\n".join(parts)


def machine_line(results: dict) -> str:
    """The machine, the date and the command; versions; contenders that were left out."""
    machine = results["machine"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads each; {machine['system']}, "
        f"Python {machine['python']}; {machine['date']}; load {machine['load_before']:.2f} before; "
        f"by `{results['command']}` in {machine['seconds'] / 60:.0f} minutes.\n"
    ]
    for name, versions in results.get("chapter", {}).get("versions", {}).items():
        lines.append(f"- {name}: " + ", ".join(f"{package} {version}" for package, version in versions.items()))
    lines += [f"- left out: {name}: {reason}" for name, reason in results["left_out"].items()]
    return "\n".join(lines)


def chapter_table(results: dict, language: str = "en") -> str:
    """One row per contender: seconds per epoch, our speedup, inference, job, memory, share of sgemm's peak.

    Args:
        results: what bench.py measured.
        language: of the heads and names, en or zh.
    """
    chapter, jobs = results["chapter"], results.get("jobs", {})
    ours, peak = chapter["epochs"][OURS], max(chapter["sgemm"].values())
    rows = []
    for name, epochs in chapter["epochs"].items():
        train, both = seconds(epochs, "train_seconds"), seconds(epochs, "seconds")
        inference = chapter["inference"][name]
        rows.append(
            [
                name,
                spread(train),
                spread(both),
                ratio(train, seconds(ours, "train_seconds")),
                ratio(both, seconds(ours, "seconds")),
                f"{median(jobs[name]):.1f}" if jobs.get(name) else "-",
                f"{median(inference['1']):,.0f}",
                f"{median(inference['1000']):,.0f}",
                f"{chapter['memory'][name] / 2**20:,.0f}",
                f"{chapter['flop_an_epoch'] / median(train) / peak:.0%}" if train else "-",
                f"{epochs[-1]['test_acc']:.3f}",
            ]
        )
    if language == "zh":
        rows = [[named(name, language), *cells] for name, *cells in rows]
    threads = results["machine"]["threads"]
    return table([f"{threads} 个线程" if language == "zh" else f"{threads} threads", *CHAPTER_HEADS[language]], rows)


def speed_line(results: dict, language: str = "en") -> str:
    """How many times as long as ours an epoch with its test pass takes d2lzh and PyTorch, in a sentence."""
    epochs = results["chapter"]["epochs"]
    ours = seconds(epochs[OURS], "seconds")
    d2lzh, torch = (ratio(seconds(epochs[name], "seconds"), ours)[:-1] for name in (D2LZH, CHANNELS_LAST))
    threads = results["machine"]["threads"]
    if language == "zh":
        return (
            f"同一台机器上轮流运行，各用 {threads} 个线程：这一节的一个迭代周期（包括测试），"
            f"d2lzh 用的时间是这里的 {d2lzh} 倍，"
            f"PyTorch（channels_last）是 {torch} 倍（`make bench`）。"
        )
    return (
        f"An epoch of the chapter, with its test pass, takes d2lzh {d2lzh} times as long and PyTorch (channels_last) "
        f"{torch} times,\nin one interleaved run with {threads} threads each (`make bench`)."
    )


def sgemm_line(chapter: dict) -> str:
    """The speed of sgemm, to which the table's shares refer."""
    name, peak = max(chapter["sgemm"].items(), key=lambda item: item[1])
    flop = chapter["flop_an_epoch"]
    return (
        f"sgemm's peak, measured in the same run: {peak / 1e9:,.0f} GFLOP/s (the library of {name}). The net's "
        f"multiply-adds are {flop / 1e9:.0f} GFLOP per epoch: {flop / peak:.3f} s at that speed. Ours skips some of "
        "them: in max pooling's backward pass three of four pixels have no gradient."
    )


def jobs_table(jobs: dict) -> str:
    """One row per command: seconds from prompt to prompt, and d2lzh's time as a multiple."""
    d2lzh = jobs.get(D2LZH)
    rows = [
        [name, spread(values), f"{median(d2lzh) / median(values):.1f}x" if d2lzh else "-"]
        for name, values in jobs.items()
        if values
    ]
    return table(["5 epochs, imports and all", "s", "d2lzh's time is x this"], rows)


def recipes_table(recipes: dict) -> str:
    """One row per recipe: ours against PyTorch channels_last, and ours with the recipe's augmentation."""
    rows = []
    for recipe, given in recipes.items():
        ours, theirs = (seconds(given.get(name, []), "train_seconds") for name in (OURS, CHANNELS_LAST))
        accuracies = [
            f"{given[name][-1]['test_acc']:.3f}" if given.get(name) else "-" for name in (OURS, CHANNELS_LAST)
        ]
        augmented = seconds(given.get(AUGMENTED, []), "train_seconds")
        costs = [spread(augmented), ratio(augmented, ours, decimals=2)]
        rows.append([f"`{recipe}`", spread(ours), spread(theirs), ratio(theirs, ours), *accuracies, *costs])
    heads = ["training, s/epoch", OURS, CHANNELS_LAST, "ours faster", "test acc: ours", "PyTorch's"]
    heads += ["ours, augmented", "times without"]
    return table(heads, rows)


def scaling_table(what: str, points: list[dict]) -> str:
    """One row per point."""
    rows = [
        [
            point["name"],
            f"{point['x']:,}",
            spread(seconds(point["epochs"], "train_seconds")),
            f"{point['memory'] / 2**20:,.0f}",
        ]
        for point in points
    ]
    return table(["", what, "training, s/epoch", "peak MiB"], rows)


def plots(results: dict, folder: Path) -> None:
    """bench_bars.png, .zh-CN.png and bench_scaling.png, as far as their parts were measured."""
    if "chapter" in results:
        write_picture(bars(results["chapter"]["epochs"]), folder / "bench_bars.png")
        write_picture(bars(results["chapter"]["epochs"], "zh"), folder / "bench_bars.zh-CN.png")
    if "scaling" in results:
        write_picture(scaling(results), folder / "bench_scaling.png")


@chinese()
def bars(epochs: dict[str, list[dict]], language: str = "en") -> Figure:
    """Seconds of an epoch with its test pass, a bar for each contender, the fastest on top; ours stand out."""
    medians = {name: median(seconds(given, "seconds")) for name, given in epochs.items()}
    names = sorted(medians, key=medians.get, reverse=True)
    figure = Figure(figsize=(7.5, 0.32 * len(names) + 0.7), layout="constrained")  # inches
    axes = figure.subplots()
    colors = ["#b5124f" if is_ours(name) else "0.75" for name in names]
    shown = axes.barh([named(name, language) for name in names], [medians[name] for name in names], color=colors)
    axes.bar_label(shown, fmt="%.1f", padding=3, fontsize=9)
    axes.set_xlabel({"en": "seconds an epoch, with its test pass", "zh": "一个迭代周期的秒数，包括测试"}[language])
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.08)
    return figure


def is_ours(name: str) -> bool:
    """Whether a contender computes by the fused kernels."""
    return name.startswith(OURS) or name == READER


def named(name: str, language: str) -> str:
    """A contender's name."""
    return NAMES_ZH.get(name, name) if language == "zh" else name


def scaling(results: dict) -> Figure:
    """Seconds per epoch by batch size, threads and images, and memory by images."""
    figure = Figure(figsize=(12, 3), layout="constrained")
    panels = [(what, points, "s/epoch") for what, points in results["scaling"].items()]
    panels.append(("training images", results["scaling"]["training images"], "peak MiB"))
    for axes, (what, points, unit) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for name in dict.fromkeys(point["name"] for point in points):
            mine = [point for point in points if point["name"] == name]
            x = [point["x"] for point in mine]
            if unit == "peak MiB":
                y = [point["memory"] / 2**20 for point in mine]
                images = [y[0] + (n - x[0]) * 28 * 28 / 2**20 for n in x]
                axes.plot(x, images, "--", color="grey", label="the images' bytes alone")
            else:
                y = [median(seconds(point["epochs"], "train_seconds")) for point in mine]
            axes.plot(x, y, "o-", label=name)
        if what == "batch size":
            axes.set_xscale("log", base=2)
        axes.set(xlabel=what, ylabel=unit, xticks=x, xticklabels=[f"{n:,}" for n in x], ylim=(0, None))
        axes.legend(fontsize="x-small")
    return figure


def seconds(epochs: list[dict], which: str) -> list[float]:
    """`train_seconds`, or `seconds` with the test pass, of each epoch; d2lzh only times both together."""
    return [epoch[which] for epoch in epochs if epoch[which] is not None]


def spread(values: list[float]) -> str:
    """Median (smallest-largest)."""
    return f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})" if values else "-"


def ratio(theirs: list[float], ours: list[float], decimals: int = 1) -> str:
    """The median over the rounds of their time divided by ours."""
    pairs = [their / our for their, our in zip(theirs, ours, strict=False)]
    return f"{median(pairs):.{decimals}f}x" if pairs else "-"


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
