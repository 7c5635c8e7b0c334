"""The solutions of many versions earn full points, and their visible tests pass, as a student runs them."""

import nbformat
import pytest
from nbclient import NotebookClient

from authoring.notebook import source_notebook
from authoring.version import make_version
from conftest import ROOT
from grading import fences
from grading.scoring import HIDDEN, score
from grading.session import Session
from grading.sight import Limits, Sight
from planted import TESTS, settings

pytestmark = pytest.mark.assignments


@pytest.fixture(scope="module")
def session():
    """A worker for all versions: each defines every name anew."""
    sight = Sight.of_this_machine(fences.seeds())
    with Session(fences.find(sight, Limits(seconds=1500))) as session:
        yield session


SEEDS = [2, 4, 5, 7, 16, 24]
TRAINED = [5, 16]  # one with sigmoid, one with Nesterov's momentum


def test_the_seeds_cover_what_versions_differ_in():
    versions = [make_version(seed) for seed in SEEDS]
    for name, kinds in (("activation", 4), ("correlation", 3), ("pool_mode", 2), ("k", 2), ("experiment", 4)):
        assert len({getattr(version, name) for version in versions}) == kinds, name
    assert len({version.convs[0].pooling for version in versions}) == 2
    assert {make_version(seed).optimizer.name for seed in TRAINED} == {"adam", "nag"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_solution_earns_full_points(session, seed):
    for cell in source_notebook(make_version(seed), seed).cells:
        name = settings(cell).grade_id
        if cell.cell_type != "code" or name == "experiment" or (name == "train-test" and seed not in TRAINED):
            continue
        if settings(cell).grade:
            found = score(cell.source, settings(cell).points, session)
            assert found.points == TESTS[name.removesuffix("-test")], found.lines
        else:
            answer = session.cell(cell.source)
            assert not answer["failed"], answer


def test_visible_tests_pass_in_a_students_jupyter(tmp_path):
    source = source_notebook(make_version(SEEDS[0]), 1)
    for cell in source.cells:
        cell.source = HIDDEN.sub("", cell.source)
    (tmp_path / "gluon_lenet").symlink_to(ROOT / "gluon_lenet")
    NotebookClient(
        source, kernel_name="python3", timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    printed = {
        settings(cell).grade_id: "".join(
            output.get("text", "") for output in cell.outputs if output.get("name") == "stdout"
        )
        for cell in source.cells
        if cell.cell_type == "code"
    }
    assert printed["shapes-test"] == printed["params-test"] == ""
    assert "验证集上的准确率" in printed["train-test"]
    assert any(
        "image/png" in output.get("data", {})
        for output in next(cell for cell in source.cells if settings(cell).grade_id == "experiment").outputs
    )


def test_visible_tests_explain_what_is_wrong(session):
    source = source_notebook(make_version(2), 1)
    visible = {settings(c).grade_id: HIDDEN.sub("", c.source) for c in source.cells if c.cell_type == "code"}
    for answer, test, told in (
        ("shapes = {'conv1': (1, 2, 3), 'pool1': [1]}", "shapes-test", "pool2：还没有写"),
        ("params = {'total': 3}", "params-test", "各层加起来是 0"),
        ("corr2d = lambda X, K, pair: np.zeros((1, 1))", "corr2d-test", "输出应该是"),
        ("pool2d = lambda X, window, stride: np.zeros((2, 3))", "pool2d-test", "个元素应该是"),
        ("evaluate_accuracy = lambda data, net, k: 0.25", "accuracy-test", "不能把各批的准确率平均"),
        ("train_step = lambda net, loss, trainer, X, y: 10", "step-test", "没有更新"),
        ("train = lambda *args: None", "loop-test", "什么也没有返回"),
    ):
        session.cell(answer)
        outputs = session.cell(visible[test])["outputs"]
        assert told in str(outputs), (test, outputs)


def test_the_repository_does_not_hold_a_version():
    for path in (ROOT / "notebooks").rglob("*.ipynb"):
        assert "BEGIN SOLUTION" not in nbformat.writes(nbformat.read(path, as_version=4))
