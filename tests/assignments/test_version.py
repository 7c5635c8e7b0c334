"""SEED -> a version: the same on every machine, its numbers right, unlike every net of the book and of ours."""

import re

import nbformat
import pytest

from authoring.notebook import source_notebook
from authoring.version import EXPERIMENTS, OPTIMIZERS, QUESTIONS, make_version
from gluon_lenet.nets.zoo import NETS
from grading.scoring import checked, hidden_part
from planted import BY_HAND, SEED, SOLUTION, TESTS, settings

VERSIONS = [make_version(seed) for seed in range(200)]


def test_a_seed_decides_alone():
    version = make_version(SEED)
    assert version == make_version(SEED)
    assert version.shapes == {
        "conv1": (7, 20, 20),
        "pool1": (7, 10, 10),
        "conv2": (15, 8, 8),
        "pool2": (15, 4, 4),
        "dense1": (72,),
        "dense2": (42,),
        "output": (10,),
    }
    assert version.params == {"conv1": 182, "conv2": 960, "dense1": 17352, "dense2": 3066, "output": 430}


def test_versions_differ_from_each_other_and_from_every_net_of_ours():
    assert len({(str(version.shapes), version.activation) for version in VERSIONS}) == len(VERSIONS)
    assert {version.activation for version in VERSIONS} == set(OPTIMIZERS)
    assert {version.optimizer for version in VERSIONS} == {o for some in OPTIMIZERS.values() for o in some}
    assert {version.experiment for version in VERSIONS} == set(EXPERIMENTS)
    assert {question for version in VERSIONS for question in version.questions} == set(QUESTIONS)
    ours = {tuple(p.shape for p in NETS[name]().collect_params().values()) for name in NETS}
    for version in VERSIONS:
        assert tuple(version.weight_shapes) not in ours
        assert version.convs[0].pooling != version.convs[1].pooling  # as in no net of ours or the book's
        assert not {28, 120, 84} & {version.size, *version.widths}


@pytest.mark.parametrize("seed", [SEED, *range(12)])
def test_the_source_is_sound(seed):
    source = source_notebook(make_version(seed), 10**15)
    nbformat.validate(source)
    ids = [settings(cell).grade_id for cell in source.cells]
    assert len(set(ids)) == len(ids)
    points = {settings(cell).grade_id: settings(cell).points for cell in source.cells if settings(cell).grade}
    assert points == {f"{name}-test": points for name, points in TESTS.items()} | BY_HAND
    assert sum(points.values()) == 100
    assert max(points.values()) <= 15
    table = re.findall(r"^\| \d .*\| ([\d +]+) \|$", source.cells[0].source, re.MULTILINE)
    assert [sum(map(int, cell.split("+"))) for cell in table] == [13, 24, 10, 9, 12, 8, 10, 6, 8]
    text = "\n".join(cell.source for cell in source.cells)
    assert not re.search(r"<<|<%|汇聚|Undefined", text)
    assert text.count("> **提示**") >= 11
    for cell in source.cells:
        if settings(cell).solution:
            assert SOLUTION.search(cell.source), cell.source
        elif settings(cell).grade:
            checked(cell.source)
            parts = re.findall(r"points\((\d+),", hidden_part(cell.source))
            if "for value, name" in cell.source:
                parts = re.findall(r"^    \((\d),", hidden_part(cell.source), re.MULTILINE)
            elif "for name, want" in cell.source:
                parts = ["1"] * int(settings(cell).points)
            assert sum(map(int, parts)) == settings(cell).points, cell.source
