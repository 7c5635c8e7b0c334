"""Logits (classes,) and labels -> loss sum, correct answers, gradient of the logits; or a gradient from elsewhere."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gluon_lenet.engines.fused.activations import exp
from gluon_lenet.engines.fused.memory import FLOAT32, INT32, at_address
from gluon_lenet.engines.fused.sizes import LANES
from gluon_lenet.engines.fused.tables import BAD_LABELS, CORRECT, LOSS
from gluon_lenet.engines.fused.vectors import Float, Floats, Int, Variable, loop, tile


@tile
def softmax(memory: Floats, classes: Int, rubbish: Float, logits: Int, probabilities: Int, scratch: Int):
    """(classes,) logits -> (classes,) probabilities, and three vectors at `scratch` that `loss_and_gradient` needs.

    `rubbish` is the logit of one extra class without a label; minus infinity where there is none.
    The vectors: the largest logit; shift, the largest of the logits and `rubbish`; total, the sum of
    exp(logit - shift), `rubbish` included. probability = exp(logit - shift) / total.
    """
    best = Variable(memory.load(logits))
    with loop(classes, start=1) as i:
        value = memory.load(logits + i * LANES)
        best.set(value.where(value > best.get(), best.get()))
    shift = rubbish.where(rubbish > best.get(), best.get())
    total = Variable(exp(rubbish - shift))
    with loop(classes) as i:
        value = exp(memory.load(logits + i * LANES) - shift)
        memory.store(probabilities + i * LANES, value)
        total.set(total.get() + value)
    with loop(classes) as i:
        memory.store(probabilities + i * LANES, memory.load(probabilities + i * LANES) / total.get())
    for i, value in enumerate((best.get(), shift, total.get())):
        memory.store(scratch + i * LANES, value)


@njit
def loss_and_gradient(memory, layer, task, rows, count, totals):
    """Softmax cross-entropy of the block's first `count` images, its gradient, and how many are right.

    loss = log(total) + shift - logit of the label. The task's `rubbish` is the logit of an extra class without a
    label, as in LeNet-5's loss (`losses.MAPLoss`); with its `smoothing`, a share of the label's probability is expected
    of all classes alike (`losses.SmoothedCrossEntropy`). `layer` is the last one, whose output gradient is written;
    lanes from `count` on get gradient 0.
    """
    labels = at_address(INT32, task.labels, task.num_images)
    classes, gradient = layer.outputs, layer.output_gradient
    largest, shift, total = task.scratch, task.scratch + LANES, task.scratch + 2 * LANES
    certain, each = np.float32(1 - task.smoothing), np.float32(task.smoothing / classes)
    softmax(memory, classes, np.float32(task.rubbish), layer.output, gradient, task.scratch)
    for lane in range(LANES):
        label = labels[rows[lane]] if lane < count else 0
        if label < 0 or label >= classes:
            totals[BAD_LABELS] += 1
        elif lane < count:
            logit = memory[layer.output + label * LANES + lane]
            memory[gradient + label * LANES + lane] -= certain
            expected = certain * logit
            if each:
                for o in range(classes):
                    memory[gradient + o * LANES + lane] -= each
                    expected += each * memory[layer.output + o * LANES + lane]
            totals[LOSS] += math.log(memory[total + lane]) + memory[shift + lane] - expected
            best = logit == memory[largest + lane]
            for o in range(label):  # of several largest logits the first is the answer, as in argmax
                best = best and memory[layer.output + o * LANES + lane] != logit
            totals[CORRECT] += best
        else:
            for o in range(classes):
                memory[gradient + o * LANES + lane] = 0


@njit
def write_logits(memory, layer, task, start, count):
    """The last layer's output for the images of the batch from `start` on -> `task.logits`."""
    classes = layer.outputs
    logits = at_address(FLOAT32, task.logits + start * classes * 4, count * classes)
    for lane in range(count):
        for o in range(classes):
            logits[lane * classes + o] = memory[layer.output + o * LANES + lane]


@njit
def read_gradient(memory, layer, task, start, count):
    """`task.gradient` -> the gradient of the last layer's output; lanes from `count` on get gradient 0."""
    classes = layer.outputs
    gradient = at_address(FLOAT32, task.gradient + start * classes * 4, count * classes)
    for o in range(classes):
        for lane in range(LANES):
            number = gradient[lane * classes + o] if lane < count else np.float32(0)
            memory[layer.output_gradient + o * LANES + lane] = number
