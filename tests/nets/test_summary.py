"""summary.py: the table of each net, with and without biases, in processes and in this one."""

import re
from itertools import pairwise
from math import prod

import pytest

import gluon_lenet
from conftest import fails_as_bad_input
from gluon_lenet import summary
from gluon_lenet.nets import table as tables
from gluon_lenet.nets.zoo import INPUT_SHAPES, NETS

TOTALS = {  # trainable parameters, and without biases
    "lenet5_sigmoid_maxpool": (44_426, 44_426 - 236),
    "lenet5_sigmoid_avgpool": (61_706, 61_470),
    "lenet5_relu_maxpool": (61_706, 61_470),
    "lenet5_sigmoid_avgpool_c5": (61_706, 61_470),
    "lenet5_tanh_avgpool": (61_706, 61_470),
    "lenet5_1998": (60_000, 60_000 - 6 - 6 - 16 - 16 - 120 - 84),
}


def cells(text):
    return [re.split(r"\s{2,}", line) for line in text.splitlines()]


def test_table_4_1_of_write_up_000(run_module):
    process = run_module("summary", "--net", "lenet5_relu_maxpool", "--no-bias")
    assert (process.returncode, process.stderr) == (0, "")
    assert cells(process.stdout) == [
        ["layer", "input shape", "output shape", "weight shapes", "parameters"],
        ["Conv2D 5x5, padding 2, relu", "(1, 1, 28, 28)", "(1, 6, 28, 28)", "(6, 1, 5, 5)", "150"],
        ["MaxPool2D 2x2, stride 2", "(1, 6, 28, 28)", "(1, 6, 14, 14)"],
        ["Conv2D 5x5, relu", "(1, 6, 14, 14)", "(1, 16, 10, 10)", "(16, 6, 5, 5)", "2,400"],
        ["MaxPool2D 2x2, stride 2", "(1, 16, 10, 10)", "(1, 16, 5, 5)"],
        ["Dense, relu", "(1, 400)", "(1, 120)", "(120, 400)", "48,000"],
        ["Dense, relu", "(1, 120)", "(1, 84)", "(84, 120)", "10,080"],
        ["Dense", "(1, 84)", "(1, 10)", "(10, 84)", "840"],
        ["total without biases", "61,470"],
    ]


@pytest.mark.parametrize("name", sorted(NETS))
def test_every_net_has_a_table(name, capsys):
    totals = []
    for args in ([], ["--no-bias"]):
        assert summary.main(["--net", name, *args]) == 0
        rows = cells(capsys.readouterr().out)
        assert rows[1][1] == str((1, *INPUT_SHAPES[name]))
        assert rows[-2][2] == "(1, 10)"
        totals.append(int(rows[-1][1].replace(",", "")))
        counts = [int(row[4].replace(",", "")) for row in rows[1:-1] if len(row) == 5]
        assert sum(counts) == totals[-1]
    if name in TOTALS:
        assert tuple(totals) == TOTALS[name]
    trainable = gluon_lenet.get_net(name)
    trainable.initialize()
    rows = tables.layer_rows(trainable, (2, *INPUT_SHAPES[name]))
    assert rows[-1].output_shape == (2, 10)
    assert sum(row.num_parameters for row in rows) == totals[0]
    for row, following in pairwise(rows):
        assert prod(following.input_shape) == prod(row.output_shape)


def test_what_no_gradient_reaches_is_not_counted():
    from mxnet.gluon import nn

    net = nn.HybridSequential()
    net.add(nn.Conv2D(6, 5), nn.BatchNorm(), nn.Dropout(0.5), nn.Flatten(), nn.Dense(10))
    net.initialize()
    table = cells(tables.layer_table(net, (1, 1, 28, 28)))
    assert ["BatchNorm", "(1, 6, 24, 24)", "12"] in table, "gamma and beta, not the running mean and variance"
    assert table[-1] == ["total", f"{156 + 12 + 6 * 24 * 24 * 10 + 10:,}"]


def test_bad_input_is_one_line(capsys):
    fails_as_bad_input(summary.main, ["--net", "lent"], capsys, "unknown net 'lent'", *NETS)
    for args in ([], ["--net"], ["--net", "lenet5_1998", "--bias"]):
        with pytest.raises(SystemExit) as exit:
            summary.main(args)
        assert exit.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_chinese_takes_two_columns_a_character():
    assert tables.align([("层", "个数"), ("conv", "9")], "<>") == "层    个数\nconv     9"
