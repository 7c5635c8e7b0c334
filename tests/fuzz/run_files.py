"""A run's config.json and metrics.jsonl with wrong fields, or not JSON at all -> `RunDir`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import msgspec

from fuzz.mutate import Tape, cases, damage, damage_json, loads, same
from fuzz.target import Target
from gluon_lenet.fields import LARGEST_INT
from gluon_lenet.training.config import VERSION, RunConfig, with_objects
from gluon_lenet.training.metrics import EpochResult
from gluon_lenet.training.recipes import RECIPES
from gluon_lenet.training.run_dir import CONFIG, METRICS, RunDir

HERE = RunDir(".")
CONFIGS = [
    json.loads(
        RunConfig(
            version=VERSION,
            id="0123456789abcdef" * 2,
            recipe=name,
            settings=recipe,
            seed=0,
            ctx=["cpu(0)"],
            threads=2,
            backprop="fused",
            data_dir=None,
            data_sha256={"t10k-labels-idx1-ubyte": "0" * 64},
            versions={"mxnet": "1.9.1"},
            command=["python", "-m", "gluon_lenet.train"],
        ).to_json()
    )
    for name, recipe in RECIPES.items()
]
CONFIGS += json.loads((Path(__file__).parents[1] / "samples" / "configs" / "format_2.json").read_text()).values()
LINES = [
    json.loads(EpochResult(epoch, 1 / epoch, 0.5, 0.25, 1.5, 0.125, val_loss=2.0, val_acc=1.0).to_json())
    for epoch in (1, 2, 3)
]
EPOCH = 3  # at which a run resumes: two lines must be read


def make(tape: Tape) -> tuple[str, bytes]:
    """A file's name and bytes: fields changed, bytes damaged, or random ones."""
    if tape.chance(2):
        config = tape.one(CONFIGS)
        wrong = tape.number(0, 15)
        if wrong == 0:
            return CONFIG, tape.data(tape.number(0, 40))
        if wrong == 1:
            return CONFIG, json.dumps(config, indent=tape.number(0, 2)).encode()
        if wrong == 2:
            return CONFIG, damage(tape, json.dumps(config).encode())
        return CONFIG, damage_json(tape, config)
    lines = [json.dumps(line).encode() for line in LINES]
    which = tape.number(0, len(LINES) - 1)
    if not tape.chance(8):
        lines[which] = damage_json(tape, LINES[which])
    data = b"\n".join(lines) + tape.one([b"\n", b"", b'\n{"epoch": 4, "tra', b"\n\n", b"\r\n"])
    return METRICS, damage(tape, data) if tape.chance(8) else data


def read(case: tuple[str, bytes]) -> RunConfig | list[EpochResult]:
    name, data = case
    Path(name).write_bytes(data)
    return HERE.read_config() if name == CONFIG else HERE.keep_metrics_before(EPOCH)


def holds(case: tuple[str, bytes], value: RunConfig | list[EpochResult]) -> None:
    """Everything in the file was read, with the right types, and it can be written and read again."""
    name, data = case
    if name == CONFIG:
        raw = loads(data)
        if raw.get("version", 1) < 3:
            raw["settings"] = with_objects(raw["settings"], name)
        assert same(raw, json.loads(msgspec.json.encode(value)))
        assert RunConfig.from_json(value.to_json(), name) == value
        recipe = value.settings
        assert 0 <= value.seed <= LARGEST_INT >= value.threads >= 1
        assert 0 <= value.version <= VERSION
        assert min(recipe.batch_size, recipe.num_epochs) >= 1
        assert min(recipe.num_validation, recipe.wd) >= 0
        assert 0 < recipe.lr < math.inf > recipe.transform.std > 0
        assert "\0" not in recipe.net + recipe.dataset + value.recipe + (value.data_dir or "")
        return
    lines = data.split(b"\n")[: EPOCH - 1]
    assert len(value) == EPOCH - 1 == len(lines)
    for epoch, (line, result) in enumerate(zip(lines, value, strict=True), 1):
        assert result.epoch == epoch
        assert same(loads(line), asdict(result))
        assert 0 <= result.train_acc <= 1 >= result.test_acc >= 0
        assert math.isfinite(result.train_loss)
    assert Path(METRICS).read_text(encoding="utf-8") == "".join(result.to_json() + "\n" for result in value)


TARGET = Target(cases(make), read, holds, culprit=".json")
