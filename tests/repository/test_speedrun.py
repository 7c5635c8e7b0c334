"""benchmarks/speedrun.py: what is kept of a run, and the table."""

import json

import speedrun


def test_what_is_kept_of_a_run():
    lines = [json.dumps({"train_seconds": s, "test_acc": acc}) for s, acc in ((1.5, 0.97), (1.25, 0.99))]
    assert speedrun.result(4.0, lines) == {"training": 2.75, "command": 4.0, "test_acc": 0.99}


def test_the_table():
    def run(*seconds):
        return [{"training": s, "command": s + 2, "test_acc": 0.991} for s in seconds]

    results = {
        "machine": {"cpu": "A CPU", "cores": 2, "threads": 2, "date": "2026-01-02", "load_before": 0.1},
        "rounds": 3,
        "runs": {"gluon_lenet": run(2.0, 1.0, 2.0), "PyTorch eager": run(8.0, 5.0, 12.0)},
    }
    text = speedrun.as_markdown(results, [0.991, 0.989, 0.99])
    assert "| gluon_lenet | 2.00 (1.00-2.00) | 1.0x | 4.00 (3.00-4.00) | 0.9910 |" in text
    assert "| PyTorch eager | 8.00 (5.00-12.00) | 5.0x | 10.00 (7.00-14.00) | 0.9910 |" in text  # of 4, 5 and 6
    assert "3 seeds: 0.9900 ± 0.0010 (0.9890-0.9910); 2 of them at least 0.99." in text
    assert "A CPU, 2 cores, 2 threads each; 2026-01-02; load 0.10 before; 3 rounds" in text
