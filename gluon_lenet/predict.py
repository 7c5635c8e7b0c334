"""Command line: classify image files with the net of a run. `python -m gluon_lenet.predict --help`"""

from __future__ import annotations

import json
import sys

from gluon_lenet import cli
from gluon_lenet.errors import InputError


def main(argv: list[str] | None = None) -> int:
    """Predict as `argv` says; returns the exit status: 0, 1 (an image, data or disk) or 2 (bad input)."""
    return cli.run(lambda: predict(parse(argv)))


def parse(argv: list[str] | None = None):
    """The command line's arguments; exits with status 2 and one line if one of them is wrong."""
    parser = cli.Parser(
        prog="python -m gluon_lenet.predict",
        description="Classify pictures with the net of a run: PNG, JPEG, BMP, GIF or WebP, any size, colour or grey, "
        "dark on light or light on dark. A digit (runs on MNIST) is cropped and centred as in MNIST; a piece of "
        "clothing (runs on Fashion-MNIST) must be on a plain background and is fitted into 28x28 pixels. A file that "
        "cannot be read, or is not a drawing of one digit, is reported; the others are predicted, and the exit status "
        "is 1.",
    )
    add = parser.add_argument
    add("images", nargs="*", metavar="IMAGE", help="image files")
    add(
        "--run",
        metavar="DIR",
        required=True,
        help="a run's folder, as gluon_lenet.train prints it, or pretrained:RECIPE",
    )
    add("--weights", choices=["best", "last"], help="best by validation accuracy, or last (default: best if it exists)")
    add("--first", type=cli.positive_int, metavar="N", help="also predict the first N test images")
    add("--show", metavar="FILE", help="draw the net's input images (.png, .jpg, .pdf or .svg)")
    add("--json", action="store_true", help="print one JSON object, with the probabilities of all classes")
    add("--data-dir", metavar="DIR", help="folder with the four IDX files, for --first (default: as in training)")
    add("--ctx", default="auto", help="auto, cpu, gpu or gpu(1) (default: auto)")
    args = parser.parse_args(argv)
    if not args.images and not args.first:
        parser.error("nothing to predict: name image files, or --first N")
    return args


def predict(args) -> int:
    """Predict as the parsed arguments say."""
    # imported here because it loads MXNet, after the arguments have been checked
    import numpy as np

    from gluon_lenet.inference.trained import Trained
    from gluon_lenet.viz import files
    from gluon_lenet.viz.drawings import show_drawings

    if args.show:
        files.check_picture_path(args.show)
        if (args.first or 0) + len(args.images) > cli.MOST_PICTURED:
            raise InputError(f"--show draws at most {cli.MOST_PICTURED} images")
    trained = Trained(args.run, args.weights, args.ctx)
    images, rows = [], []  # one row per requested image; those that can be predicted have a picture in `images`
    if args.first:
        data = trained.load_data(args.data_dir)
        if args.first > len(data.test_images):
            raise InputError(f"--first {args.first}: there are {len(data.test_images)} test images")
        images += list(data.test_images[: args.first])
        rows += [
            {"image": f"test image {i}", "actual": trained.classes[data.test_labels[i]]} for i in range(args.first)
        ]
    for path in args.images:
        row = {"image": path}
        try:
            images.append(trained.read_image(path))
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            row["error"] = str(error)
        rows.append(row)

    predicted = [row for row in rows if "error" not in row]
    for row, probabilities in zip(predicted, trained.probabilities(np.array(images, dtype=np.uint8)), strict=True):
        best = int(probabilities.argmax())
        row["predicted"], row["probability"] = trained.classes[best], float(probabilities[best])
        row["probabilities"] = dict(zip(trained.classes, probabilities.tolist(), strict=True))
    if args.json:
        found = {"run": args.run, "recipe": trained.name, "weights": trained.weights, "predictions": rows}
        print(json.dumps(found, allow_nan=False))  # ASCII, since a file name may not be valid text
    else:
        for row in predicted:
            print(_line(row))
    if args.show and images:
        columns = ([row[key] for row in predicted] for key in ("predicted", "probability", "image"))
        files.write_picture(show_drawings(images, *columns), args.show)
    return cli.FAILED if len(predicted) < len(rows) else 0


def _line(row: dict) -> str:
    """`digit.png: 7 (99.8 %)`, for a test image also its actual class."""
    actual = f", actual {row['actual']}" if "actual" in row else ""
    return f"{row['image']}: {row['predicted']} ({row['probability']:.1%}){actual}"


if __name__ == "__main__":
    cli.leave(main())
