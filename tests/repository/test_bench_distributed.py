"""benchmarks/bench_distributed.py: the model of many machines, and the tables."""

import pytest

import bench_distributed as bd

MACHINE = {"cpu": "A CPU", "cores": 2, "threads": 2, "date": "2026-01-02", "load_before": 0.1}
MEASURED = {
    "machine": MACHINE,
    "seconds": {"fused": {"one process": 0.002, "1 workers": 0.003, "2 workers": 0.0025, "4 workers": 0.004}},
    "bytes": {"1": 400_000, "2": 800_000, "4": 1_600_000},
    "batches": {"4": 0.0003, "16": 0.0004, "64": 0.0008, "256": 0.0024},
}


def test_the_model_is_the_line_through_the_measured_batches_and_the_messages():
    assert bd.model(MEASURED, 1, 1e9) == pytest.approx(0.0024)
    assert bd.model(MEASURED, 16, 1e9) == pytest.approx(0.0004 + 0.001 + 2 * 4 * 44_426 * 16 / 1e9)
    assert bd.model(MEASURED, 1000, 1e9) > bd.model(MEASURED, 10, 1e9), "a server's link does not grow"
    assert bd.model(MEASURED, 2, 1e9, 512) == pytest.approx(0.0024 + 0.001 + 8 * 44_426 * 2 / 1e9)


def test_the_tables():
    modes = {
        "machine": MACHINE,
        "test_acc": {"one process": [0.75], "dist_sync": [0.75]},
        "seconds": {"dist_sync": [2]},
    }
    sweeps = {"machine": MACHINE, "runs": 6, "per_hour": {"gluon_lenet, 1": 600.0, "gluon_lenet, 2": 1000.4}}
    text = bd.as_markdown({"workers": MEASURED, "modes": modes, "sweep": sweeps})
    assert "| fused | 2 | 102,400 | 2.50 | 800,000 |" in text
    assert "| fused | one process, no server | 128,000 | 2.00 |  |" in text
    assert "| `dist_sync` | 0.7500 | 30,000 |" in text
    assert "| gluon_lenet | 600 | 1,000 |" in text
    assert "With 1 Gbit/s and batches of 256, one worker is the fastest." in text
    assert "a model, not a measurement" in text
    chinese = bd.as_markdown({"workers": MEASURED, "modes": modes, "sweep": sweeps}, "zh")
    assert [line.count("|") for line in chinese.splitlines()] == [line.count("|") for line in text.splitlines()]
