"""Results of a sweep -> a row for each setting, with mean and confidence interval over seeds; as a table, as a plot."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from gluon_lenet.atomic import write_atomically
from gluon_lenet.nets.table import align
from gluon_lenet.sweeps.trials import Result
from gluon_lenet.viz.figures import dots
from gluon_lenet.viz.files import write_picture
from gluon_lenet.viz.intervals import interval

TABLE, PLOT = "table.txt", "plot.png"
_MOST_PLOTTED = 200  # rows: thousands take a minute to draw, and nobody can read them


class Row(NamedTuple):
    """The runs of one setting."""

    changes: dict[str, Any]
    results: list[Result]  # those that ended well
    failed: list[Result]

    @property
    def scores(self) -> list[float]:
        """The accuracies, one a seed."""
        return [result.score for result in self.results]


def rows(results: Iterable[Result]) -> list[Row]:
    """The results by setting, in the order in which they come."""
    found: dict[str, Row] = {}
    for result in results:
        row = found.setdefault(json.dumps(result.changes), Row(result.changes, [], []))
        (row.results if result.error is None else row.failed).append(result)
    return list(found.values())


def table(results: Sequence[Result]) -> str:
    """The rows as aligned lines: what differs between them, runs, accuracy, parameters, seconds, failures.

    The accuracy is the mean over seeds and, from two on, half the width of its 95 % confidence interval (Student's t);
    that on the validation images if the recipe holds out some.
    """
    by_setting = rows(results)
    names = _varied(by_setting)
    head = [*names, "runs", _what(by_setting), "parameters", "seconds", "failed"]
    lines = [[*texts, *_numbers(row)] for texts, row in zip(_texts(by_setting, names), by_setting, strict=True)]
    return align([head, *lines], "<" * len(names) + ">" * (len(head) - len(names) - 1) + "<")


def plot(results: Sequence[Result], title: str) -> Figure:
    """The rows as points with their confidence intervals, and each run as a pale dot; of too many, the best."""
    by_setting = rows(results)
    names = _varied(by_setting)
    labels = [", ".join(map(" ".join, zip(names, texts, strict=True))) for texts in _texts(by_setting, names)]
    scores = {label: row.scores for label, row in zip(labels, by_setting, strict=True)}
    if len(scores) > _MOST_PLOTTED:
        best = sorted(scores, key=lambda label: -statistics.mean(scores[label] or [0.0]))[:_MOST_PLOTTED]
        scores, title = {label: scores[label] for label in best}, f"{title}: the best {_MOST_PLOTTED} of {len(scores)}"
    return dots({"": scores}, _what(by_setting), title)


def _what(by_setting: Sequence[Row]) -> str:
    """What the scores are."""
    validated = any(result.best.val_acc is not None for row in by_setting for result in row.results)
    return "validation accuracy" if validated else "test accuracy"


def _varied(by_setting: Sequence[Row]) -> list[str]:
    """The names of settings that differ between rows."""
    names = dict.fromkeys(name for row in by_setting for name in row.changes)
    return [name for name in names if len({json.dumps(row.changes.get(name)) for row in by_setting}) > 1]


def _texts(by_setting: Sequence[Row], names: Sequence[str]) -> list[list[str]]:
    """The values of these settings, a list for each row; numbers with four digits if that tells the rows apart."""
    for form in (".4g", ""):  # the latter: as Python writes them
        texts = [[_text(row.changes.get(name, ""), form) for name in names] for row in by_setting]
        if len(set(map(tuple, texts))) == len(texts):
            break
    return texts


def _text(value: Any, form: str) -> str:
    if isinstance(value, float):
        return format(value, form)
    return value if isinstance(value, str) else json.dumps(value)


def _numbers(row: Row) -> list[str]:
    failed = f"{len(row.failed)}: {row.failed[0].error:.60}" if row.failed else ""
    if not row.results:
        return ["0", "", "", "", failed]
    if len(row.scores) > 1:
        mean, half = interval(row.scores)
        score = f"{mean:.4f} ± {half:.4f}"
    else:
        score = f"{row.scores[0]:.4f}"
    seconds = statistics.mean(result.seconds for result in row.results)
    return [str(len(row.results)), score, f"{row.results[0].num_parameters:,}", f"{seconds:.1f}", failed]


def write_report(results: Sequence[Result], folder: Path, title: str) -> str:
    """Write table.txt and plot.png into the folder; returns the table. Raises DiskError if that fails."""
    text = table(results)
    write_atomically(folder / TABLE, f"{text}\n".encode())
    if any(row.results for row in rows(results)):
        write_picture(plot(results, title), folder / PLOT)
    return text
