"""The command line of a training, `gluon_lenet.train`, which `gluon_lenet.launch` hands on -> its arguments."""

from __future__ import annotations

from gluon_lenet import cli
from gluon_lenet.training.recipes import DEFAULT_RECIPE, FOLDER_RECIPE, RECIPES


def parse(argv: list[str] | None = None):
    """The command line's arguments; exits with status 2 and one line if one of them is wrong."""
    parser = cli.Parser(prog="python -m gluon_lenet.train", description="Train one of the LeNets by its recipe.")
    add = parser.add_argument
    add("--recipe", metavar="NAME", help=f"the recipe to train: {', '.join(RECIPES)} (default: {DEFAULT_RECIPE})")
    add("--ctx", help="auto, cpu, gpu, gpu(1) or a list that shares each batch: cpu(0),cpu(1) (default: auto)")
    add("--num-gpus", type=cli.gpus, metavar="N", help="the first N GPUs; 0 is the CPU (as in GluonCV)")
    add("--epochs", "--num-epochs", type=cli.epochs, metavar="N", help="passes over the training data")
    add("--batch-size", type=cli.positive_int, metavar="N", help="images per step")
    add("--lr", type=cli.positive_float, metavar="LR", help="learning rate, for the mean gradient of a batch")
    add("--augment", action="store_true", default=None, help="random affine augmentation, redrawn every epoch")
    add(
        "--seed",
        type=cli.natural_int,
        metavar="N",
        help="for weights, shuffling, augmentation and dropout (default: 0)",
    )
    add("--threads", type=cli.threads, metavar="N", help="CPU threads (default: all physical cores)")
    add("--backprop", metavar="MODE", help="auto, autograd or fused (default: auto, fused where it applies)")
    add(
        "--dataset",
        metavar="FOLDER",
        help=f"train on the pictures in FOLDER, which has a subfolder for each class (default recipe: {FOLDER_RECIPE})",
    )
    add("--data-dir", metavar="DIR", help="folder with the four IDX files (default: found or fetched)")
    add("--run-dir", metavar="DIR", help="folder for the results (default: runs/<recipe>-<time>)")
    add("--resume", metavar="DIR", help="resume the run in DIR with its own settings, bit for bit")
    add(
        "--kvstore",
        choices=["dist_sync", "dist_async"],
        help="train with others: the environment says with whom, as gluon_lenet.launch sets it (docs/distributed.md)",
    )
    add("--gradient-compression", choices=["2bit"], help="send gradients in 2 bits a number; needs --kvstore")
    add("--log-every", type=cli.positive_int, metavar="N", help="also print loss and accuracy every N batches")
    add("--quiet", action="store_true", help="print only the run directory")
    args = parser.parse_args(argv)
    if args.num_gpus is not None:
        if args.ctx is not None:
            parser.error("--ctx and --num-gpus both name the device; give one of them")
        args.ctx = ",".join(f"gpu({i})" for i in range(args.num_gpus)) or "cpu"
    if args.quiet and args.log_every is not None:
        parser.error("--quiet prints no lines that --log-every asks for; give one of them")
    if args.dataset is not None and args.data_dir is not None:
        parser.error("--dataset and --data-dir both name the data; give one of them")
    if args.gradient_compression is not None and args.kvstore is None:
        parser.error("--gradient-compression is for --kvstore; give both or none")
    if args.resume is not None:
        fixed = ["recipe", "ctx", "batch_size", "lr", "augment", "seed", "threads", "backprop", "run_dir"]
        given = [f"--{name.replace('_', '-')}" for name in fixed if getattr(args, name) is not None]
        if given:
            parser.error(f"--resume uses the run's own settings; drop {', '.join(given)}")
    return args
