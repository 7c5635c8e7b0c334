"""sweeps/space.py and trials.py: which trainings a sweep has, and by which key their results are found."""

import json
from dataclasses import replace

import msgspec
import pytest

from gluon_lenet.data.catalogue import get_entry
from gluon_lenet.errors import InputError
from gluon_lenet.sweeps.space import Space, parse_set, parse_sets
from gluon_lenet.sweeps.trials import Trial
from gluon_lenet.training.recipes import RECIPES, get_recipe
from gluon_lenet.training.settings import Cosine, Normal, Step, Variant


def test_a_grid_times_seeds():
    trials = Space(set={"lr": [0.1, 0.3], "net.activation": ["relu", "tanh"]}, seeds=2).trials()
    assert [(t.changes["lr"], t.changes["net.activation"], t.seed) for t in trials] == [
        (lr, activation, seed) for lr in (0.1, 0.3) for activation in ("relu", "tanh") for seed in (0, 1)
    ]
    assert trials[2].recipe == replace(
        RECIPES["d2l_v1_fashion"], lr=0.1, net="lenet_variant", variant=Variant(activation="tanh")
    )
    assert len({trial.key for trial in trials}) == 8


def test_values_of_every_kind():
    (trial,) = Space(
        recipe="augmented_mnist",
        set={
            "init": ["normal"],
            "schedule": [None],
            "transform.mean": [0.1307],
            "net.channels": [[12, 32]],
            "net.units": [[]],
            "num_train": [20000],
        },
    ).trials()
    recipe = trial.recipe
    assert (recipe.init, recipe.schedule, recipe.num_train) == (Normal(), None, 20000)
    assert (recipe.transform.mean, recipe.transform.std) == (0.1307, 1.0)
    assert recipe.variant == Variant(channels=(12, 32), units=())
    (trial,) = Space(set={"augment": [True], "schedule": ["cosine"]}).trials()
    assert trial.recipe.augment == get_entry("fashion_mnist").augmentation
    assert trial.recipe.schedule == Cosine()


def test_a_sample_is_drawn_from_lists_and_ranges():
    space = {"set": dict(map(parse_set, ["lr=log(0.001,1)", "batch_size=uniform(16,256)", "net.activation=relu,tanh"]))}
    trials = Space(**space, sample=200, sample_seed=3).trials()
    rates, sizes = ([trial.changes[name] for trial in trials] for name in ("lr", "batch_size"))
    assert all(0.001 <= lr <= 1 for lr in rates)
    assert 70 < sum(lr < 0.0316 for lr in rates) < 130, "half of them are below the middle of the logarithms"
    assert all(isinstance(size, int) and 16 <= size <= 256 for size in sizes)
    assert {trial.changes["net.activation"] for trial in trials} == {"relu", "tanh"}
    assert trials == Space(**space, sample=200, sample_seed=3).trials() != Space(**space, sample=200).trials()


def test_a_training_that_is_named_or_drawn_twice_is_one():
    assert [t.changes["lr"] for t in Space(set={"lr": [0.1, 0.3, 1e-1, 0.3]}).trials()] == [0.1, 0.3]
    drawn = Space(set={"net.activation": ["relu", "tanh"]}, sample=20, seeds=2).trials()
    assert len(drawn) == len({trial.key for trial in drawn}) == 4


def test_whole_numbers_are_equally_likely_and_end_where_they_should():
    space = {"set": dict([parse_set("num_epochs=uniform(1,3)"), parse_set("lr=uniform(1.0,3.0)")])}
    changes = [trial.changes for trial in Space(**space, sample=300).trials()]
    counts = [sum(c["num_epochs"] == number for c in changes) for number in (1, 2, 3)]
    assert sum(counts) == 300
    assert min(counts) > 70, counts
    assert all(not c["lr"].is_integer() for c in changes)


def test_the_order_of_settings_does_not_matter():
    for names in (["schedule", "schedule.factor"], ["schedule.factor", "schedule"]):
        values = {"schedule": ["step"], "schedule.factor": [0.5]}
        (trial,) = Space(set={name: values[name] for name in names}).trials()
        assert trial.recipe.schedule == Step(factor=0.5)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("lr=0.1,0.3", [0.1, 0.3]),
        ("net.channels=[6,16],[12,32]", [[6, 16], [12, 32]]),
        ("net.units=[],[120,84]", [[], [120, 84]]),
        ("init=xavier,msra", ["xavier", "msra"]),
        ("augment=null,true", [None, True]),
        ("num_train=NaN,Infinity,1e999", ["NaN", "Infinity", "1e999"]),
        (f"lr={'[' * 9999}", ["[" * 9999]),
        ('init={"type":"normal","sigma":0.1},msra', [{"type": "normal", "sigma": 0.1}, "msra"]),
    ],
)
def test_values_on_the_command_line(text, values):
    assert parse_set(text) == (text.split("=")[0], values)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"set": {"lrr": [1]}}, "unknown setting 'lrr'; choose from net, dataset, optimizer, lr, "),
        ({"set": {"net.kernel": [1]}}, "unknown setting 'net.kernel'; choose from "),
        ({"set": {"lr": ["x"]}}, "the setting lr=x: lr must be a number above 0, not 'x'"),
        ({"set": {"net.activation": ["relu6"]}}, "variant.activation must be one of sigmoid, tanh, relu, softrelu"),
        ({"set": {"net.channels": [[6]]}}, "variant.channels must be two numbers of channels: .6, 16., not .6."),
        ({"set": dict([parse_set("lr=log(0.1,1)")])}, "lr has a range, of which a grid"),
        ({"set": dict([parse_set("lr=log(0,1)")]), "sample": 3}, "lr: a range must go from a number to a larger one"),
        ({"set": {"lr": [0.1] * 400, "wd": [0.1] * 400}}, "160,000 trainings; at most 100,000 are possible"),
        ({"set": dict([parse_set("lr=uniform(0,1e200)")]), "sample": 3}, "lr: a range must lie between -1e.100 and"),
        ({"sample": 10**9}, "the sample has 1,000,000,000 trainings; at most 100,000 are possible: draw fewer"),
        ({"set": {"net.kernel_size": [3], "net": ["lenet5_1998"]}}, "net=lenet5_1998 has no net.kernel_size, which is"),
        ({"set": {"dataset": ["x"]}}, "unknown data set 'x'"),
        ({"recipe": "lent"}, "unknown recipe 'lent'"),
    ],
)
def test_what_cannot_be_trained_is_named(space, message):
    with pytest.raises(InputError, match=message):
        Space(**space).trials()


def test_a_wrong_set_is_named():
    for text in ("lr", "=0.1", "lr="):
        with pytest.raises(InputError, match="must be NAME=VALUE"):
            parse_set(text)
    with pytest.raises(InputError, match=r"--set lr=log\(a,1\): low must be a finite number, not 'a'"):
        parse_set("lr=log(a,1)")
    with pytest.raises(InputError, match="--set lr is given twice"):
        parse_sets(["lr=0.1", "wd=0", "lr=0.9"])


def test_a_file_says_the_same(tmp_path):
    file = tmp_path / "sweep.json"
    file.write_text(
        '{"set": {"lr": [0.1, 0.9], "wd": {"draw": "log", "low": 0.001, "high": 1}}, "sample": 4, "seeds": 2}'
    )
    parts = dict(map(parse_set, ["lr=0.1,0.9", "wd=log(0.001,1)"]))
    assert Space.from_file(str(file)).trials() == Space(set=parts, sample=4, seeds=2).trials()
    file.write_text('{"sets": {}}')
    with pytest.raises(InputError, match=r"sweep.json: the field 'sets' is unknown"):
        Space.from_file(str(file))
    for wrong, message in (
        ('{"lr": 0.1}', r"set\[...\] must be a list of at least one value or an object"),
        ('{"lr": {"draw": "x", "low": 1, "high": 2}}', r"invalid value 'x' in set\[...\].draw"),
    ):
        file.write_text(f'{{"set": {wrong}}}')
        with pytest.raises(InputError, match=message):
            Space.from_file(str(file))


def test_the_key_depends_on_what_decides_the_result():
    trial = Trial(name="d2l_v1_fashion", recipe=get_recipe("d2l_v1_fashion"))
    assert trial.key == msgspec.json.decode(msgspec.json.encode(trial), type=Trial).key
    assert trial.key == msgspec.structs.replace(trial, name="x", run_dir="x", changes={"lr": 0.9}).key
    words = replace(trial.recipe, published="other words")
    assert trial.key == msgspec.structs.replace(trial, recipe=words).key
    others = [{"seed": 1}, {"threads": 2}, {"ctx": "gpu"}, {"backprop": "autograd"}]
    others += [{"recipe": replace(trial.recipe, lr=0.8)}]
    assert len({msgspec.structs.replace(trial, **other).key for other in others} | {trial.key}) == 6
    assert len(json.dumps(trial.key)) == 18
