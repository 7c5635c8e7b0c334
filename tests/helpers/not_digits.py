"""Pictures with and without a digit -> how many `predict` rejects, and how many get less than 60 % from a net.

`PYTHONPATH=.:tests python tests/helpers/not_digits.py --run RUN ... --record FILE` measures it, with test images and
nets trained on MNIST. `--choose` prints the measurements by which the limits in `one_digit.py` were chosen: of training
images, and of pictures drawn with another seed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from gluon_lenet.data.datasets import load_dataset
from gluon_lenet.errors import InputError
from gluon_lenet.inference.pictures import forms
from gluon_lenet.inference.pictures.ink import ink_of
from gluon_lenet.inference.pictures.one_digit import LIMITS, Drawing
from gluon_lenet.inference.trained import Trained
from pictures import FORMS, NO_DIGITS, NO_DIGITS_UNSEEN, digit_picture

DOUBTED = 0.6  # the net counts as unsure below this probability


def digit_pictures(images: np.ndarray, form: str, count: int, seed: int) -> Iterator[np.ndarray]:
    """Random images, in the given form."""
    rng = np.random.default_rng([seed, *FORMS[form].__name__.encode()])
    for i in rng.choice(len(images), count, replace=False):
        yield digit_picture(form, images[i], rng)


def other_pictures(kind: str, count: int, seed: int) -> Iterator[np.ndarray]:
    """Pictures of one kind without a digit."""
    draw = (NO_DIGITS | NO_DIGITS_UNSEEN)[kind]
    rng = np.random.default_rng([seed, *draw.__name__.encode()])
    for _ in range(count):
        yield draw(rng)


def read(pictures: Iterator[np.ndarray], folder: Path) -> tuple[list[np.ndarray], list[str]]:
    """The net's inputs for the pictures that `predict` accepts, as files, and why it rejects the others."""
    path, seen, refusals = folder / "picture.png", [], []
    for picture in pictures:
        Image.fromarray(picture).save(path, compress_level=1)
        try:
            seen.append(forms.read_digit(path))
        except InputError as error:
            refusals.append(str(error).removeprefix(f"{path}: "))
    return seen, refusals


def doubted(nets: list[Trained], seen: list[np.ndarray]) -> list[int]:
    """The number of drawings to which each net gives a probability below 60 %."""
    if not seen:
        return [0] * len(nets)
    return [int((net.probabilities(np.array(seen)).max(axis=1) < DOUBTED).sum()) for net in nets]


def measure(nets: list[Trained], count: int, seed: int, folder: Path) -> str:
    """The table in Markdown: `count` pictures of each kind, and as many digits of each form."""
    lines = []
    for title, kinds in (("chosen", NO_DIGITS), ("not chosen", NO_DIGITS_UNSEEN)):
        columns = [f"no digit, limits {title} by such pictures", "pictures", "refused"]
        columns += [f"or below 60 % by {net.name}, {net.recipe.num_epochs} epochs" for net in nets]
        lines += ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
        rows = []
        for kind in kinds:
            seen, refusals = read(other_pictures(kind, count, seed), folder)
            rows.append([kind, count, len(refusals), *(len(refusals) + n for n in doubted(nets, seen))])
        lines += _rows(rows)
    lines += ["| digits, test images | pictures | refused | of these as blank |", "|---|---|---|---|"]
    images, rows = load_dataset("mnist").test_images, []
    for form in FORMS:
        _, refusals = read(digit_pictures(images, form, count, seed), folder)
        rows.append([form, count, len(refusals), sum("blank" in refusal for refusal in refusals)])
    return "\n".join(lines + _rows(rows))


def _rows(rows: list[list]) -> list[str]:
    """Rows of a table and their sum, with percentages, and an empty line."""
    total = ["**all**", *(sum(column) for column in list(zip(*rows, strict=True))[1:])]
    texts = [" | ".join(map(str, row)) for row in rows]
    shares = " | ".join(f"**{n} ({n / total[1]:.1%})**" for n in total[2:])
    return [*(f"| {text} |" for text in texts), f"| {total[0]} | **{total[1]}** | {shares} |", ""]


def choose(count: int, seed: int) -> str:
    """The range of each measure: for training images, for pictures of them, and for pictures to be rejected."""
    images = load_dataset("mnist").train_images
    groups = {"training images": (images[i] for i in range(0, len(images), 3))}
    groups |= {form: digit_pictures(images, form, count, seed) for form in FORMS}
    groups |= {kind: other_pictures(kind, count, seed) for kind in NO_DIGITS}
    lines = []
    for name, pictures in groups.items():
        found = []
        for picture in pictures:
            try:
                found.append(Drawing(ink_of(picture)))
            except InputError:  # blank
                continue
        lines.append(f"{name}: {len(found)}; outside the limit, at 0, 0.1, 1, 50, 99, 99.9, 100 %")
        for measured, limit in LIMITS.items():
            values = np.array([limit.measure(drawing) for drawing in found])
            outside = int(((values < limit.least) | (values > limit.most)).sum())
            percentiles = " ".join(f"{value:8.2f}" for value in np.percentile(values, [0, 0.1, 1, 50, 99, 99.9, 100]))
            lines.append(f"    {measured:12} {limit.least:5g} to {limit.most:5g}: {outside:5}; {percentiles}")
    return "\n".join(lines)


def main() -> None:
    """Measure or show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--choose", action="store_true", help="show what the limits were chosen by")
    parser.add_argument("--run", nargs="*", default=[], metavar="DIR", help="runs on MNIST to ask")
    parser.add_argument("--count", type=int, default=100, help="pictures of each kind (default: 100)")
    parser.add_argument("--seed", type=int, default=1998)
    parser.add_argument("--record", metavar="FILE", help="write the table there, too")
    args = parser.parse_args()
    if args.choose:
        print(choose(args.count, args.seed + 1))
        return
    with tempfile.TemporaryDirectory() as folder:
        table = measure([Trained(run) for run in args.run], args.count, args.seed, Path(folder))
    print(table)
    if args.record:
        header = f"""# What `predict` refuses

Written by `PYTHONPATH=.:tests python tests/helpers/not_digits.py --run RUN ... --count {args.count} \
--seed {args.seed} --record FILE` with runs of `python -m gluon_lenet.train`; the kinds of pictures and the forms of
digits are in `tests/helpers/pictures.py`.

"""
        Path(args.record).write_text(header + table)


if __name__ == "__main__":
    main()
