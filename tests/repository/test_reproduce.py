"""benchmarks/reproduce.py: what is stored of a run, when it is measured again, and the table."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

import reproduce
import small_train
from gluon_lenet.training.recipes import RECIPES


class Calls(list):
    """What was measured, and in `kept` whose weights were kept, and whether seed 0 was new."""


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """The script in an empty folder, with invented results; a list of what it measures."""
    (tmp_path / "README.md").write_text(
        "<!-- train -->\n<!-- /train -->\nwords\n"
        "<!-- records -->\n<!-- /records -->\n<!-- reproduce -->\nold\n<!-- /reproduce -->\nend\n"
    )
    monkeypatch.setattr(reproduce, "RESULTS", tmp_path / "reproduce.json")
    monkeypatch.setattr(reproduce, "READMES", {tmp_path / "README.md": "en"})
    monkeypatch.setattr(reproduce, "PAGES", {tmp_path / "README.md": "en"})
    monkeypatch.setattr(reproduce, "has_weights", lambda name: (name, True) in kept or (name, False) in kept)
    monkeypatch.setattr(reproduce, "keep", lambda name, run, run_dir, is_new: kept.append((name, is_new)))
    calls, kept = Calls(), []

    def measure(name, seeds, jobs, store):
        for seed in seeds:
            store(seed, measure_one(name, seed), tmp_path)

    def measure_one(name, seed):
        if (name, seed) == ("lecun1998_mnist", "2") and (name, seed) not in calls:
            calls.append((name, seed))
            raise KeyboardInterrupt
        calls.append((name, seed))
        also = {"--invert": 0.98} if name == "augmented_mnist" else {}
        return {
            "test_acc": 0.99 + int(seed) / 1000,
            "also": also,
            "seconds": 10.0 + int(seed),
            "printed": f"run {seed}",
        }

    monkeypatch.setattr(reproduce, "measure", measure)
    calls.kept = kept
    return calls


def test_an_interrupted_measurement_goes_on(measured, tmp_path, capsys, monkeypatch):
    args = ["d2l_v1_fashion", "lecun1998_mnist", "--seeds", "3"]
    with pytest.raises(KeyboardInterrupt):
        reproduce.main(args)
    assert "| `d2l_v1_fashion` |" in (tmp_path / "README.md").read_text(), "finished results are written at once"
    del measured[:-1]
    reproduce.main(args)
    assert measured == [("lecun1998_mnist", "2")] * 2, "only the seed that was interrupted"
    text = (tmp_path / "README.md").read_text()
    assert "<!-- train -->\n```text\nrun 0\n```\n<!-- /train -->\nwords\n" in text
    assert (
        f"| `d2l_v1_fashion` | {RECIPES['d2l_v1_fashion'].published} | 0.9910 ± 0.0010 (0.9900-0.9920), 3 seeds | 11 "
        "| `python benchmarks/reproduce.py d2l_v1_fashion --seeds 3` |\n"
    ) in text
    records = text.partition("<!-- records -->")[2].partition("<!-- /records -->")[0]
    assert "`d2l_v1_fashion`" in records
    assert "lecun1998" not in records
    assert "| 0.90 ± 0.10 (0.80-1.00) % test error, 3 seeds | 11 |" in text, "the paper gives test errors"
    assert text.endswith("|\n<!-- /reproduce -->\nend\n")

    reproduce.main(["d2l_v1_fashion", "--seeds", "2"])
    assert len(measured) == 2
    reproduce.main(["d2l_v1_fashion", "--seeds", "1", "--again"])
    assert measured[2:] == [("d2l_v1_fashion", "0")]
    assert list(json.loads(reproduce.RESULTS.read_text())["d2l_v1_fashion"]["runs"]) == ["0"]
    assert "| 0.9900, 1 seed |" in (tmp_path / "README.md").read_text()

    monkeypatch.setitem(RECIPES, "d2l_v1_fashion", replace(RECIPES["d2l_v1_fashion"], published="other words"))
    reproduce.main(["d2l_v1_fashion", "--seeds", "1"])
    monkeypatch.setitem(RECIPES, "d2l_v1_fashion", replace(RECIPES["d2l_v1_fashion"], lr=0.8))
    reproduce.main(["d2l_v1_fashion", "--seeds", "1"])
    assert measured[3:] == [("d2l_v1_fashion", "0")], "a changed lr is measured again, a changed text is not"


def test_weights_that_the_package_lacks_are_trained_and_stored_measurements_stay(measured, tmp_path):
    reproduce.main(["d2l_v1_fashion", "--seeds", "3"])
    assert measured.kept == [("d2l_v1_fashion", True)]
    stored = json.loads(reproduce.RESULTS.read_text())
    for seed in "012":
        stored["d2l_v1_fashion"]["runs"][seed]["test_acc"] += 0.002
    reproduce.RESULTS.write_text(json.dumps(stored))
    reproduce.main(["d2l_v1_fashion", "--seeds", "3"])
    assert len(measured) == 3, "nothing is missing"
    measured.kept.clear()
    reproduce.main(["d2l_v1_fashion", "--seeds", "3"])
    assert measured[3:] == [("d2l_v1_fashion", "0")]
    assert measured.kept == [("d2l_v1_fashion", False)]
    assert json.loads(reproduce.RESULTS.read_text()) == stored

    measured.kept.clear()
    for seed in "012":
        stored["d2l_v1_fashion"]["runs"][seed]["test_acc"] -= 0.01
    reproduce.RESULTS.write_text(json.dumps(stored))
    with pytest.raises(SystemExit, match=r"0.9900 does not agree with the stored 0.9820-0.9840; measure all seeds"):
        reproduce.main(["d2l_v1_fashion", "--seeds", "3"])
    assert not measured.kept


def test_what_is_kept_of_a_run(tmp_path, monkeypatch):
    """A real run, of few images: its kept weights and its card, and nothing else in the repository."""
    monkeypatch.setattr(reproduce.pretrained, "FOLDER", tmp_path / "pretrained")
    monkeypatch.setattr(reproduce, "RESULTS", tmp_path / "reproduce.json")
    run_dir = small_train.train_small(tmp_path / "run", "--recipe", "small_momentum", "--epochs", "2")
    monkeypatch.setitem(RECIPES, "small_momentum", replace(small_train.SMALL["small_momentum"], num_epochs=2))
    assert not reproduce.has_weights("small_momentum")
    reproduce.keep("small_momentum", {"epoch": 2, "test_acc": 0.5678}, run_dir, is_new=True)
    assert reproduce.has_weights("small_momentum")
    assert (tmp_path / "small_momentum.png").exists()
    best, kept = load_file(run_dir / "best.safetensors"), load_file(tmp_path / "pretrained/small_momentum.safetensors")
    assert kept.keys() == {key.removeprefix("weights/") for key in best if key.startswith("weights/")}
    assert all(np.array_equal(array, best[f"weights/{key}"]) for key, array in kept.items())
    card = json.loads((tmp_path / "pretrained/small_momentum.json").read_text())
    assert (card["num_correct"], card["num_examples"], card["epoch"]) == (5678, 10000, 2)
    monkeypatch.setitem(RECIPES, "small_momentum", replace(RECIPES["small_momentum"], lr=0.5))
    assert not reproduce.has_weights("small_momentum"), "those of another lr"


def test_changed_test_sets_have_rows_of_their_own(measured, tmp_path):
    reproduce.main(["augmented_mnist", "--seeds", "2"])
    text = (tmp_path / "README.md").read_text()
    assert "\n| the same, `evaluate --invert` | none | 0.9800 ± 0.0000 (0.9800-0.9800), 2 seeds | | `python" in text


def test_the_results_in_the_readme_are_those_that_were_measured():
    results = json.loads(reproduce.RESULTS.read_text())
    measured = {name: results[name] for name in RECIPES if name in results}
    for page, language in reproduce.PAGES.items():
        table = reproduce.as_table(measured, language)
        assert f"<!-- reproduce -->\n{table}\n<!-- /reproduce -->" in page.read_text(encoding="utf-8")
    for name, result in results.items():
        assert result["settings"] == reproduce.settings_of(RECIPES[name]), f"{name} has changed since it was measured"


def test_an_unknown_recipe_is_named(capsys):
    with pytest.raises(SystemExit) as exit:
        reproduce.main(["lent"])
    assert exit.value.code == 2
    assert "unknown recipe 'lent'; choose from d2l_v1_fashion" in capsys.readouterr().err


def test_the_chinese_table_is_in_chinese():
    assert set(reproduce.PUBLISHED_ZH) == {recipe.published for recipe in RECIPES.values()}
    runs = {str(i): {"test_acc": 0.99 + i / 1000, "also": {"--invert": 0.98}, "seconds": 10.0} for i in range(2)}
    table = reproduce.as_table({name: {"runs": runs} for name in RECIPES}, "zh")
    prose = re.sub(r"`[^`]*`", "", table)
    assert set(re.findall("[A-Za-z]+", prose)) == {"CPU", "GPU"}
    english = reproduce.as_table({name: {"runs": runs} for name in RECIPES})
    assert [line.count("|") for line in table.splitlines()] == [line.count("|") for line in english.splitlines()]
    assert "| 测试错误率：论文 0.95%，一次参考运行 0.98% | 测试错误率 0.95 ± 0.07 (0.90-1.00)%，2 个种子 |" in table


def test_a_sweep_measures_what_is_stored(monkeypatch):
    """A real one, of few images; the README shows what seed 0 printed."""
    monkeypatch.setitem(RECIPES, "d2l_v1_fashion", replace(RECIPES["d2l_v1_fashion"], num_train=1000, num_epochs=1))
    stored = []
    reproduce.measure("d2l_v1_fashion", ["0"], 1, lambda seed, run, run_dir: stored.append((seed, run, run_dir)))
    ((seed, run, run_dir),) = stored
    assert (seed, run["epoch"], run["also"]) == ("0", 1, {})
    assert run["test_acc"] == pytest.approx(0.1, abs=0.1)
    assert run["seconds"] > 0
    assert not run_dir.exists()
    head, *_, last = run["printed"].splitlines()
    assert head.startswith("layer")
    assert re.search(r" examples/s in training; results are in runs/d2l_v1_fashion-\d{8}-\d{6}$", last)
