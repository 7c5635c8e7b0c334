"""Arguments of every command, valid, invalid and absurd -> the expected values, or status 2 and one line.

Most command lines are only parsed. A command is executed only if it must fail, because the run, the folder or the net
that it needs does not exist.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from types import ModuleType

from fuzz.mutate import Tape, cases
from fuzz.target import Target
from gluon_lenet import cli, evaluate, export, params, predict, summary, train
from gluon_lenet.errors import InputError
from gluon_lenet.training.recipes import RECIPES

data = importlib.import_module("gluon_lenet.data.__main__")

NATURAL = (
    ["0", "7", "2147483647", "0012"],
    ["-1", "2147483648", "1.5", "1e3", "", " 1", "1\n", "+1", "1_0", "٣", "\0", "x" * 99],
)
POSITIVE = (["1", "7", "2147483647", "0012"], ["0", *NATURAL[1]])
EPOCHS = (["1", "1000000"], ["1000001", *POSITIVE[1]])
THREADS = (["1", "256"], ["257", *POSITIVE[1]])
GPUS = (["0", "64"], ["65", *NATURAL[1]])
RATE = (
    ["0.1", "1e-3", "5", ".5", "1.", "1E2"],
    ["0", "-1", "nan", "inf", "1e999", "1e-999", "1,5", "", ".", "0x1", "1.2.3", "१"],
)
ANGLE = (["15", "180", "1e-9"], ["180.5", "1e308", *RATE[1]])
TEXT = (
    ["a", "ü/数", "a b", " ", "\udcff", "/dev/null", "~nobody", "~", ".", "a\nb", "x" * 5000, "cpu(0)", "é\r"],
    ["", "a\0b"],
)
RECIPE = ([*RECIPES, "no recipe", "数"], ["", "\0"])
WEIGHTS = (["best", "last"], ["bes", "Best", "", "\0"])
FLAG = ([None], [])


@dataclass(frozen=True)
class Command:
    """One command, valid and invalid values of its options, and when executing it must fail."""

    module: ModuleType
    act: Callable[[argparse.Namespace], int]
    options: dict[str, tuple[list, list]]
    fails: Callable[[argparse.Namespace], bool]
    required: tuple[str, ...] = ()
    positionals: tuple[tuple[list, list], ...] = ()
    words: tuple[str, ...] = ()  # before all other arguments


COMMANDS = [
    Command(
        train,
        train.train,
        {
            "recipe": RECIPE,
            "ctx": TEXT,
            "num-gpus": GPUS,
            "epochs": EPOCHS,
            "num-epochs": EPOCHS,
            "batch-size": POSITIVE,
            "lr": RATE,
            "augment": FLAG,
            "seed": NATURAL,
            "threads": THREADS,
            "backprop": TEXT,
            "dataset": TEXT,
            "data-dir": TEXT,
            "run-dir": TEXT,
            "resume": TEXT,
            "log-every": POSITIVE,
            "quiet": FLAG,
        },
        lambda args: args.resume is not None or (args.recipe is not None and args.recipe not in RECIPES),
    ),
    Command(
        evaluate,
        evaluate.evaluate,
        {
            "run": TEXT,
            "weights": WEIGHTS,
            "confusion": (["a.png", "ü/b.svg", *TEXT[0]], TEXT[1]),
            "grid": TEXT,
            "show": POSITIVE,
            "rotate": ANGLE,
            "invert": FLAG,
            "seed": NATURAL,
            "json": FLAG,
            "dataset": TEXT,
            "data-dir": TEXT,
            "ctx": TEXT,
        },
        lambda args: True,
        required=("run",),
    ),
    Command(
        predict,
        predict.predict,
        {
            "run": TEXT,
            "weights": WEIGHTS,
            "first": POSITIVE,
            "show": (["a.png", "ü/b.svg", *TEXT[0]], TEXT[1]),
            "json": FLAG,
            "data-dir": TEXT,
            "ctx": TEXT,
        },
        lambda args: True,
        required=("run",),
        positionals=(TEXT,),
    ),
    Command(
        export,
        export.export,
        {
            "run": TEXT,
            "format": (sorted(export.ENDINGS), ["onn", "tflite", "", "\0"]),
            "output": TEXT,
            "weights": WEIGHTS,
        },
        lambda args: True,
        required=("run", "format"),
    ),
    Command(
        params,
        params.params,
        {"run": TEXT, "weights": WEIGHTS},
        lambda args: True,
        required=("run",),
        positionals=(TEXT,),
        words=("export",),
    ),
    Command(
        params,
        params.params,
        {"recipe": RECIPE, "run-dir": TEXT, "data-dir": TEXT},
        lambda args: args.data_dir is not None or args.recipe not in RECIPES,
        required=("recipe",),
        positionals=(TEXT,),
        words=("import",),
    ),
    Command(
        summary,
        summary.summarize,
        {"net": (["lenet", "no net", "数"], ["", "\0"]), "no-bias": FLAG},
        lambda args: args.net != "lenet",
        required=("net",),
    ),
    Command(
        data,
        data.act,
        {"data-dir": TEXT},
        lambda args: args.data_dir is not None or (args.name is not None and args.name not in data.DATASETS),
        positionals=((sorted(data.ACTIONS), ["fetc", "", "\0"]), (["mnist", "fashion_mnist", "no data"], ["", "\0"])),
    ),
]
_ODD = [
    *("--", "-", "-1", "--no", "-x", "--run", "--seed", "-é", "---", "--=", "=", "@file", "\0", "\udcff", ""),
    *("a", "--ctx=", "--j"),
]


@dataclass(frozen=True)
class Line:
    """Arguments of a command, and what they mean."""

    command: int  # in COMMANDS
    argv: list[str]
    meant: dict[str, str | None] | None = None  # option or positional -> its text; None: they may mean anything
    wrong: bool = False  # there is an error among them


def make(tape: Tape) -> Line:
    """Options with valid values, sometimes an invalid value or an incompatible option; or anything."""
    which = tape.number(0, len(COMMANDS) - 1)
    command = COMMANDS[which]
    if tape.chance(8):
        return Line(which, [*command.words, *_anything(tape, command)])
    meant, options, wrong = _options(tape, command)
    places, wrong_place = _places(tape, command)
    wrong = wrong or wrong_place or _clash(command, meant, places)
    if tape.chance(16):
        options.append(tape.one(["--unknown", "-x", "--unknown=1"]))
        wrong = True
    return Line(which, [*command.words, *places, *options], meant | {"": places}, wrong)


def _anything(tape: Tape, command: Command) -> list[str]:
    return [
        tape.one([tape.one(_ODD), f"--{tape.one(list(command.options))}", tape.one(TEXT[0]), tape.text()])
        for _ in range(tape.number(0, 5))
    ]


def _options(tape: Tape, command: Command) -> tuple[dict[str, str | None], list[str], bool]:
    """Up to five options: their meaning, their arguments, and whether a value is wrong."""
    chosen = [name for name in command.required if not tape.chance(12)]
    chosen += [tape.one(list(command.options)) for _ in range(tape.number(0, 4))]
    meant, words, wrong = {}, [], False
    for name in dict.fromkeys(chosen):
        value, is_wrong = _value(tape, *command.options[name])
        meant[name], wrong = value, wrong or is_wrong
        if value is None:
            words.append(f"--{name}")
        elif value.startswith("-") or tape.chance(2):  # after a space, -1 would be an option
            words.append(f"--{name}={value}")
        else:
            words += [f"--{name}", value]
    return meant, words, wrong


def _places(tape: Tape, command: Command) -> tuple[list[str], bool]:
    """The positional arguments, and whether one is wrong or missing."""
    times, places, wrong = 1, [], False
    if command.module is predict:
        times = tape.one([1, 1, 1, 2, 0])
    elif command.module is params and tape.chance(12):
        times, wrong = 0, True
    for place, values in enumerate(command.positionals * times):
        if command.module is data and place and tape.chance(2):
            break  # the data set's name may be left out
        value, is_wrong = _value(tape, *values)
        places.append(value)
        wrong = wrong or is_wrong
    return places, wrong


def _value(tape: Tape, right: list, bad: list) -> tuple[str | None, bool]:
    """One of the right values or, one time in eight, of the wrong ones; and whether it is wrong."""
    value = tape.one(right)
    return (tape.one(bad), True) if bad and tape.chance(8) else (value, False)


def _clash(command: Command, meant: dict, places: list[str]) -> bool:
    """Whether options that are valid by themselves are incompatible, or one is missing."""
    if not set(command.required) <= meant.keys():
        return True
    if {"dataset", "data-dir"} <= meant.keys():
        return True
    if command.module is train:
        fixed = {"recipe", "ctx", "num-gpus", "batch-size", "lr", "augment", "seed", "threads", "backprop", "run-dir"}
        return (
            {"ctx", "num-gpus"} <= meant.keys()
            or {"quiet", "log-every"} <= meant.keys()
            or ("resume" in meant and bool(fixed & meant.keys()))
        )
    return command.module is predict and not places and "first" not in meant


def read(case: Line) -> argparse.Namespace | str:
    """The parsed arguments, or "help" if the command printed its help. Asserts that no file is written."""
    command, out, err, parsed = COMMANDS[case.command], io.StringIO(), io.StringIO(), []
    there = os.listdir(".")

    def main() -> int:
        parsed.append(command.module.parse(case.argv))
        return command.act(parsed[0]) if command.fails(parsed[0]) else 0

    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = cli.run(main)
        except SystemExit as exit:
            status = exit.code
    assert os.listdir(".") == there
    if status == cli.BAD_INPUT:
        text = err.getvalue()
        assert out.getvalue() == ""
        assert text.startswith("error: ")
        assert text.endswith("\n")
        # A command line that was parsed and then failed counts as accepted: its arguments must be the expected ones.
        if not parsed:
            raise InputError(text[:-1])
        assert len(text.splitlines()) == 1, text
        return parsed[0]
    assert err.getvalue() == ""
    if parsed:
        verifies = command.module is data and parsed[0].action == "verify"
        assert status == (1 if verifies and command.fails(parsed[0]) else 0)
        return parsed[0]
    assert status == 0
    assert out.getvalue().startswith("usage: ")
    return "help"


def holds(case: Line, args: argparse.Namespace | str) -> None:
    """Each option has its value, as a number if it is one, and all others are at their defaults."""
    assert not case.wrong
    if args == "help":
        assert case.meant is None
        assert any(word.startswith(("-h", "--h")) for word in case.argv)
    elif case.meant is not None:
        command, values = COMMANDS[case.command], dict(vars(args))
        places = case.meant[""]
        if command.module is predict:
            assert values.pop("images") == places
        elif command.module is params:
            assert [values.pop("action"), values.pop("file")] == [*command.words, *places]
        elif command.module is data:
            assert [values.pop("action"), values.pop("name")] == [*places, None][:2]
        if "num-gpus" in case.meant:
            assert values.pop("ctx") == (",".join(f"gpu({i})" for i in range(int(case.meant["num-gpus"]))) or "cpu")
        meant = {
            name.replace("num-epochs", "epochs").replace("-", "_"): text for name, text in case.meant.items() if name
        }
        for name, value in values.items():
            if name not in meant:
                default = {"seed": 0, "ctx": "auto"}.get(name) if command.module is not train else None
                assert value in (default, False), (name, value)
            elif meant[name] is None:
                assert value is True
            else:
                assert type(value)(meant[name]) == value, (name, value)


TARGET = Target(cases(make), read, holds, culprit="error: ")
