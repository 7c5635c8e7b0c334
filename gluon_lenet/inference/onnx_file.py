"""A trained net -> an ONNX file, checked, whose metadata say what the net's input and output are."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import gluon_lenet
from gluon_lenet.atomic import write_output
from gluon_lenet.errors import InputError
from gluon_lenet.inference.trained import Trained

OPSET = 13  # of 2020: every operator needed is in it, and every runtime of today reads it
IR_VERSION = 7  # the version of the file's format that came with it


def write_onnx(path: str | Path, trained: Trained) -> list[Path]:
    """Write the net as ONNX; returns the file.

    Its input `images` is float32 (batch, 1, h, w), after the preprocessing of the run's training; its output `logits`
    is float32 (batch, classes), for batches of any size. The metadata describe both.

    Raises:
        InputError: the package onnx is missing, a layer cannot be exported, or as `write_output`.
        DiskError: the disk is full, or fails.
    """
    try:
        import onnx
    except ImportError as error:
        raise InputError(
            f"--format onnx needs the package onnx, which cannot be imported ({error}); it is in requirements.txt and "
            "in the extra gluon_lenet[export]: pip install 'onnx<1.23'"
        ) from None
    from gluon_lenet.inference.onnx_nodes import onnx_graph

    model = onnx.helper.make_model(
        onnx_graph(trained.net, trained.input_shape),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="gluon_lenet",
        producer_version=gluon_lenet.__version__,
    )
    onnx.helper.set_model_props(model, metadata(trained))
    onnx.checker.check_model(model, full_check=True)
    write_output(path, model.SerializeToString(deterministic=True))
    return [Path(path)]


def metadata(trained: Trained) -> dict[str, str]:
    """What a user of the file must know, as texts and JSON."""
    shape = ", ".join(map(str, trained.input_shape))
    return {
        "input": f"images: float32 (batch, {shape}), of grey images uint8 (batch, 28, 28) with background 0 and ink up "
        f"to 255: {trained.transform.describe()}",
        "output": f"logits: float32 (batch, {len(trained.classes)}); the largest is the answer, and their softmax the "
        "probabilities of the classes",
        "preprocessing": json.dumps(asdict(trained.transform)),
        "classes": json.dumps(trained.classes),
        "recipe": trained.name,
        "net": trained.recipe.net,
        "dataset": trained.entry.name,
        "weights": trained.weights,
    }
