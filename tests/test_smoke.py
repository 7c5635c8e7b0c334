"""Every supported Python: import, read the real data, train one epoch of the chapter by the command line."""

import json


def test_one_epoch_of_the_chapter(run_module, tmp_path):
    process = run_module("train", "--epochs", 1, "--seed", 0, "--run-dir", tmp_path / "run")
    assert process.returncode == 0, process.stderr
    (result,) = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    # after one epoch at lr 0.9 the sigmoid net is still near chance: the loss of guessing is ln 10 = 2.303
    assert 2.0 < result["train_loss"] < 2.4
    assert 0.09 <= result["train_acc"] <= 0.4
    assert 0.09 <= result["test_acc"] <= 0.6
