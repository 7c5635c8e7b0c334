"""Command line: score a run on its test set. `python -m gluon_lenet.evaluate --help`"""

from __future__ import annotations

import json

from gluon_lenet import cli
from gluon_lenet.errors import InputError

NUM_RANDOM = 50  # images of the grid, as in write-up 003


def main(argv: list[str] | None = None) -> int:
    """Evaluate as `argv` says; returns the exit status: 0, 1 (data or disk) or 2 (bad input)."""
    return cli.run(lambda: evaluate(parse(argv)))


def parse(argv: list[str] | None = None):
    """The command line's arguments; exits with status 2 and one line if one of them is wrong."""
    parser = cli.Parser(
        prog="python -m gluon_lenet.evaluate",
        description="Accuracy on the test set, whole and by class, and the confusion matrix. Writes only the "
        "files named by --confusion and --grid (.png, .jpg, .pdf or .svg).",
    )
    add = parser.add_argument
    add(
        "--run",
        metavar="DIR",
        required=True,
        help="a run's folder, as gluon_lenet.train prints it, or pretrained:RECIPE",
    )
    add("--weights", choices=["best", "last"], help="best by validation accuracy, or last (default: best if it exists)")
    add("--confusion", metavar="FILE", help="draw the confusion matrix")
    add("--grid", metavar="FILE", help=f"draw {NUM_RANDOM} random test images, or those of --show, with predictions")
    add("--show", type=cli.positive_int, metavar="N", help="print the predictions for the first N test images")
    add("--rotate", type=cli.degrees, metavar="DEG", help="rotate each test image by a random angle of at most DEG")
    add("--invert", action="store_true", help="score the inverted test images, read as predict reads a picture")
    add("--seed", type=cli.natural_int, default=0, metavar="N", help="for random images and angles (default: 0)")
    add("--json", action="store_true", help="print all numbers as one JSON object instead")
    add(
        "--dataset", metavar="FOLDER", help="score the pictures in FOLDER instead, which has a subfolder for each class"
    )
    add("--data-dir", metavar="DIR", help="folder with the four IDX files (default: as in training)")
    add("--ctx", default="auto", help="auto, cpu, gpu or gpu(1) (default: auto)")
    args = parser.parse_args(argv)
    if args.dataset is not None and args.data_dir is not None:
        parser.error("--dataset and --data-dir both name the data; give one of them")
    return args


def evaluate(args) -> int:
    """Evaluate as the parsed arguments say."""
    # imported here because it loads MXNet, after the arguments have been checked
    import numpy as np

    from gluon_lenet.data.augment import Augmentation
    from gluon_lenet.inference.trained import Trained
    from gluon_lenet.viz import figures, files

    for picture in filter(None, (args.confusion, args.grid)):
        files.check_picture_path(picture)
    trained = Trained(args.run, args.weights, args.ctx)
    data = trained.load_data(args.data_dir) if args.dataset is None else trained.load_folder(args.dataset)
    classes = trained.classes
    if args.show and args.show > len(data.test_images):
        raise InputError(f"--show {args.show}: there are {len(data.test_images)} test images")
    if args.show and args.grid and args.show > cli.MOST_PICTURED:
        raise InputError(f"--show {args.show}: --grid draws at most {cli.MOST_PICTURED} images")

    images, changes = data.test_images, ""
    if args.rotate:
        images = Augmentation(rotation=args.rotate)(images, np.random.default_rng(args.seed))
        changes += f", rotated by up to {args.rotate:g} degrees"
    if args.invert:
        images = np.stack([trained.normalize(255 - image) for image in images])
        changes += ", inverted and read as pictures"
    predictions, scores = trained.score(images, data.test_labels)
    shown = [
        {"test_image": i, "predicted": classes[predictions[i]], "actual": classes[data.test_labels[i]]}
        for i in range(args.show or 0)
    ]
    if args.json:
        print(json.dumps(_numbers(args, trained, data, scores, shown), allow_nan=False))
    else:
        print(_text(trained, data, scores, shown, changes))
    if args.confusion:
        title = f"{trained.name}: {scores.num_correct:,} of {scores.num_examples:,} test images right"
        files.write_picture(figures.confusion_matrix(scores.confusion, classes, title), args.confusion)
    if args.grid:
        everything = np.random.default_rng(args.seed).permutation(len(data.test_images))
        rows = np.arange(args.show) if args.show else everything[:NUM_RANDOM]
        num_wrong = int((predictions[rows] != data.test_labels[rows]).sum())
        title = f"{trained.name}: {len(rows)} test images, {num_wrong} wrong: predicted (actual)"
        predicted, actual = ([classes[k] for k in numbers[rows]] for numbers in (predictions, data.test_labels))
        files.write_picture(figures.prediction_grid(images[rows], predicted, actual, title), args.grid)
    return 0


def _text(trained, data, scores, shown: list[dict], changes: str) -> str:
    """The report: one line per image of --show, the accuracy, the table by class, the confusion matrix."""
    from gluon_lenet.nets.table import align

    classes = trained.classes
    lines = ["test image {test_image}: predicted {predicted}, actual {actual}".format(**row) for row in shown]
    lines.append(
        f"test accuracy {scores.accuracy:.4f}: {scores.num_correct:,} of {scores.num_examples:,} images of "
        f"{data.name}{changes} right, by the {trained.weights} weights of {trained.name}"
    )
    table = [("class", "images", "correct", "accuracy")]
    for name, (images, correct) in zip(classes, scores.by_class, strict=True):
        table.append((name, f"{images:,}", f"{correct:,}", f"{correct / images:.4f}" if images else "-"))
    numbers = [str(k) for k in range(len(classes))]
    # numbers as column headings: ten class names would not fit a terminal
    names = [name if name == number else f"{number} {name}" for name, number in zip(classes, numbers, strict=True)]
    square = [("actual \\ predicted", *numbers)]
    square += [(name, *map(str, row)) for name, row in zip(names, scores.confusion.tolist(), strict=True)]
    return "\n".join([*lines, "", align(table, "<>>>"), "", align(square, "<" + ">" * len(classes))])


def _numbers(args, trained, data, scores, shown: list[dict]) -> dict:
    """The report as JSON."""
    by_class = [
        {
            "class": name,
            "num_examples": images,
            "num_correct": correct,
            "accuracy": correct / images if images else None,
        }
        for name, (images, correct) in zip(trained.classes, scores.by_class, strict=True)
    ]
    return {
        "run": args.run,
        "recipe": trained.name,
        "weights": trained.weights,
        "dataset": data.name,
        "rotate": args.rotate or 0,  # degrees, at most
        "invert": args.invert,
        "num_examples": scores.num_examples,
        "num_correct": scores.num_correct,
        "accuracy": scores.accuracy,
        "by_class": by_class,
        "confusion": scores.confusion.tolist(),  # rows: actual, columns: predicted
        "shown": shown,
    }


if __name__ == "__main__":
    cli.leave(main())
