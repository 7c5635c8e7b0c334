"""The benchmark: tables from known results, and one small round of our own workers."""

import json
import time
from pathlib import Path

import pytest

import bench
from gluon_lenet.training.recipes import RECIPES


def epochs(*seconds, test=0.1, acc=0.75):
    return [{"train_seconds": s, "seconds": s + test, "loss": 0.6, "test_acc": acc} for s in seconds]


@pytest.fixture
def results():
    d2lzh = [{"train_seconds": None, "seconds": s, "loss": 0.6, "test_acc": 0.7} for s in (9.0, 10.5, 12.0)]
    ours = epochs(0.5, 0.4, 0.6)
    torch = epochs(2.0, 2.0, 1.8)
    return {
        "command": "python benchmarks/bench.py",
        "machine": {
            "cpu": "A CPU", "cores": 2, "threads": 2, "system": "Linux x86_64", "python": "3.11.7",
            "date": "2026-01-02", "load_before": 0.1, "seconds": 610.0,
        },
        "left_out": {"JAX": "jax is not installed: no wheel"},
        "chapter": {
            "epochs": {"gluon_lenet, fused": ours, "d2lzh": d2lzh, "PyTorch channels_last": torch},
            "inference": {
                name: {"1": [900.0, 1100.0, 1000.0], "1000": [2e5]}
                for name in ("gluon_lenet, fused", "d2lzh", "PyTorch channels_last")
            },
            "memory": {"gluon_lenet, fused": 200 * 2**20, "d2lzh": 2**30, "PyTorch channels_last": 2**29},
            "sgemm": {"gluon_lenet, fused": 3e11, "PyTorch channels_last": 4e11},
            "flop_an_epoch": 91_000_000_000,
            "versions": {"gluon_lenet, fused": {"mxnet": "1.9.1"}},
        },
        "jobs": {"gluon_lenet, fused": [5.0], "d2lzh": [50.0], "PyTorch channels_last": [15.0]},
        "recipes": {
            "relu_adam_mnist": {"gluon_lenet, fused": epochs(1.0), "PyTorch channels_last": epochs(4.0)},
            "best_mnist": {
                "gluon_lenet, fused": epochs(1.0), "gluon_lenet, fused, augmented": epochs(1.2),
                "PyTorch channels_last": epochs(4.0),
            },
        },
        "scaling": {
            "training images": [
                {"name": "gluon_lenet, fused", "x": n, "epochs": epochs(n / 120_000), "memory": 2**20 * n // 1000}
                for n in (60_000, 120_000)
            ]
        },
    }  # fmt: skip


def test_the_tables(results, tmp_path):
    text = bench.report.as_markdown(json.loads(json.dumps(results)))
    chapter = {line[2:].split(" |")[0]: line for line in reversed(text.splitlines()) if line.startswith("| ")}
    ours = "0.50 (0.40-0.60) | 0.60 (0.50-0.70) | 1.0x | 1.0x | 5.0 | 1,000 | 200,000 | 200 | 46% | 0.750"
    assert chapter["gluon_lenet, fused"] == f"| gluon_lenet, fused | {ours} |"  # 91 GFLOP / 0.5 s of 400 GFLOP/s
    # the median of 9.0 / 0.6, 10.5 / 0.5 and 12.0 / 0.7, not the ratio of the medians
    d2lzh = "- | 10.50 (9.00-12.00) | - | 17.1x | 50.0 | 1,000 | 200,000 | 1,024 | - | 0.700"
    assert chapter["d2lzh"] == f"| d2lzh | {d2lzh} |"
    assert chapter["PyTorch channels_last"].split(" | ")[3:5] == ["4.0x", "3.5x"]  # of 4, 5, 3 and of 3.5, 4.2, 2.7
    assert "- left out: JAX: jax is not installed: no wheel" in text
    assert "A CPU, 2 cores, 2 threads each; Linux x86_64, Python 3.11.7; 2026-01-02" in text
    assert "| gluon_lenet, fused | 5.00 (5.00-5.00) | 10.0x |" in text
    recipe = "1.00 (1.00-1.00) | 4.00 (4.00-4.00) | 4.0x | 0.750 | 0.750"
    assert f"| `relu_adam_mnist` | {recipe} | - | - |" in text
    assert f"| `best_mnist` | {recipe} | 1.20 (1.20-1.20) | 1.20x |" in text
    assert "| gluon_lenet, fused | 120,000 | 1.00 (1.00-1.00) | 120 |" in text
    chinese = bench.report.chapter_table(results, "zh").splitlines()
    assert chinese[0].startswith("| 2 个线程 | 训练，秒/迭代周期 | 加上测试 |")
    assert chinese[2] == f"| gluon_lenet，专用内核 | {ours} |"
    bench.report.plots(results, tmp_path)
    assert (tmp_path / "bench_scaling.png").read_bytes()[:4] == b"\x89PNG"


def test_what_the_readmes_say_of_the_speed_was_measured():
    results = json.loads((bench.RESULTS / "bench.json").read_text())
    for (page, language), readme in zip(bench.PAGES.items(), bench.READMES, strict=True):
        said = bench.report.speed_line(results, language)
        assert f"<!-- speed -->\n{said}\n<!-- /speed -->" in readme.read_text(encoding="utf-8")
        table = bench.report.chapter_table(results, language)
        assert f"<!-- bench -->\n{table}\n<!-- /bench -->" in page.read_text(encoding="utf-8")


def test_what_the_others_are_told():
    layers = bench.layers_of(RECIPES["d2l_v1_fashion"])
    assert layers == [
        ["conv", 1, 6, 5, 0], ["sigmoid"], ["max", 2], ["conv", 6, 16, 5, 0], ["sigmoid"], ["max", 2], ["flatten"],
        ["dense", 256, 120], ["sigmoid"], ["dense", 120, 84], ["sigmoid"], ["dense", 84, 10],
    ]  # fmt: skip
    first, rest = 24 * 24 * 6 * 25, 8 * 8 * 16 * 150 + 256 * 120 + 120 * 84 + 84 * 10
    assert bench.flops(layers, 28) == 2 * (2 * first + 3 * rest)
    assert round(bench.flops(layers, 28) * 60_000 / 1e9) == 91
    assert bench.layers_of(RECIPES["tanh_adam_mnist"])[6:9] == [["conv", 16, 120, 5, 0], ["tanh"], ["flatten"]]


def test_our_worker_takes_turns(tmp_path):
    job = bench.Jobs(tmp_path, num_images=512).write("relu_adam_mnist")
    left_out = {}
    with bench.workers({"ours": (bench.CONTENDERS[bench.OURS], job, 1)}, left_out) as started:
        answers = bench.interleave(started, 1, left_out, ("epoch", "infer 1000", "memory"))["ours"]
        process = started["ours"].process
        stat = Path(f"/proc/{process.pid}/stat")
        if stat.exists():  # on Linux: the process is stopped between requests
            deadline = time.monotonic() + 10
            while stat.read_text().split()[2] != "T":
                assert time.monotonic() < deadline
                time.sleep(0.01)
    assert left_out == {}
    assert process.poll() is not None
    (epoch,) = answers["epoch"]
    assert 0 < epoch["train_seconds"] < epoch["seconds"]
    assert 0.3 < epoch["test_acc"] <= 1  # 16 steps of Adam
    assert answers["infer 1000"][0] > 0
    assert answers["memory"][0] > 50 * 2**20


def test_who_cannot_start_is_left_out_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "FRAMEWORKS", tmp_path)
    (tmp_path / "torch.failed").write_text("warning\nERROR: no wheel for this machine\n")
    left_out = {}
    wanted = {"PyTorch": (bench.CONTENDERS[bench.CHANNELS_LAST], tmp_path / "job.json", 1)}
    wanted["ours"] = (bench.CONTENDERS[bench.OURS], tmp_path / "job.json", 1)  # there is no such job
    with bench.workers(wanted, left_out) as started:
        assert started == {}
    assert left_out["PyTorch"] == "torch is not installed: ERROR: no wheel for this machine"
    assert left_out["ours"].startswith("FileNotFoundError: ")
