"""A task and a table of layers -> logits, loss, correct count and gradients: the way of each block through the net.

Each thread takes its share of the blocks, one after the other. At the end the threads' sums are added up, always in the
same order, so the same number of threads gives the same bits. `tables.py` draws both, and describes the fields of
`layer` and `task`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from gluon_lenet.engines.fused import (
    activations,
    convolution,
    dense,
    distances,
    dropout,
    images,
    maxpool,
    receptive,
    subsampling,
)
from gluon_lenet.engines.fused.loss import loss_and_gradient, read_gradient, write_logits
from gluon_lenet.engines.fused.memory import (
    FLOAT32,
    FLOAT64,
    INT64,
    at_address,
    copy,
    copy_numbers,
    count_of,
    count_up,
    fill,
)
from gluon_lenet.engines.fused.sizes import LANES
from gluon_lenet.engines.fused.tables import (
    BAD_LABELS,
    BAD_ROWS,
    CONVOLUTION,
    DENSE,
    DISTANCES,
    DONE,
    LAYERS,
    MAX_POOLING,
    NOWHERE,
    SUM_POOLING,
    TAKEN,
    TOTALS,
    WRITTEN,
)
from gluon_lenet.engines.fused.vectors import Floats, Int, sums_of_lanes, tile

# --- a layer ----------------------------------------------------------------------------------------------------------


@njit
def pack(memory, layer):
    """Copy a layer's parameters into the order in which the tiles read them."""
    copy_numbers(memory, layer.bias, layer.outputs, layer.packed_bias)
    if layer.kind == CONVOLUTION:
        convolution.pack(memory, layer)
    if layer.pooling == SUM_POOLING:
        subsampling.pack(memory, layer)
    elif layer.pooling == MAX_POOLING and layer.input_gradient != NOWHERE:
        maxpool.pack(memory, layer)


@njit(inline="always")
def forward(memory, layer, task, start):
    """A block that begins with image `start` of the batch through a layer, from its input to its output."""
    if layer.kind == DENSE:
        dense.forward(memory, layer)
    elif layer.kind == DISTANCES:
        distances.forward(memory, layer)
    elif layer.pooling == MAX_POOLING:
        maxpool.forward(memory, layer)
    else:
        convolution.forward(memory, layer)
    if layer.pooling == SUM_POOLING:
        subsampling.forward(memory, layer)
    activations.forward(memory, layer)
    dropout.forward(memory, layer, task, start)


@njit
def forward_fields(memory, layers, task, start):
    """A single image through the first layers, with a receptive field in each lane; returns how many layers."""
    fields = at_address(LAYERS, task.fields, task.num_fields)
    last = layers[fields.size - 1]
    for pixel in range(0, last.pooled_height * last.pooled_width, LANES):
        receptive.gather(memory, layers[0], fields[0], last, pixel, 1 << fields.size)
        for i in range(fields.size):
            forward(memory, fields[i], task, start)
        receptive.scatter(memory, fields[fields.size - 1], last, pixel)
    return fields.size


@njit(inline="always")
def backward(memory, layer, task, start):
    """The block back through a layer, from its output's gradient to its input's; adds to the gradients' sums."""
    dropout.backward(memory, layer, task, start)
    if layer.output_bias_sums != NOWHERE:
        activations.backward(memory, layer)
    if layer.pooling == SUM_POOLING:
        subsampling.backward(memory, layer)
    if layer.kind == DENSE:
        dense.backward(memory, layer)
    elif layer.kind == DISTANCES:
        distances.backward(memory, layer)
    elif layer.pooling == MAX_POOLING:
        maxpool.backward(memory, layer)
    else:
        convolution.backward(memory, layer)


# --- a block ----------------------------------------------------------------------------------------------------------


@njit(inline="always")
def run_block(memory, layers, task, starts, start, count, totals):
    """The `count` images of the batch from `start` on through the net, forward and, if `task.train`, backward."""
    rows = at_address(INT64, task.rows + start * 8, count)
    kept = memory[task.kept : task.kept + task.kept_size]
    if task.is_second:
        copy(at_address(FLOAT32, task.store + start // LANES * task.kept_size * 4, task.kept_size), kept)
    else:
        pixels = task.channels * task.height * task.width
        for lane in range(LANES):  # lanes that are left over repeat the first image, and count for nothing
            row = rows[lane] if lane < count else rows[0]
            if row < 0 or row >= task.num_images:
                totals[BAD_ROWS] += 1
                return
            starts[lane] = row * pixels
        images.read(memory, task, starts, pixels)
        if task.staging != layers[0].input:
            images.move_inside(memory, task)
        first = 0
        if count == 1 and task.num_fields > 0 and not task.train and not task.drops and task.store == 0:
            first = forward_fields(memory, layers, task, start)
        for i in range(first, layers.size):
            forward(memory, layers[i], task, start)
        if task.store != 0:
            copy(kept, at_address(FLOAT32, task.store + start // LANES * task.kept_size * 4, task.kept_size))
    last = layers[layers.size - 1]
    if task.logits != 0:
        write_logits(memory, last, task, start, count)
    if task.gradient != 0:
        read_gradient(memory, last, task, start, count)
    elif task.labels != 0:
        loss_and_gradient(memory, last, task, rows, count, totals)
    if task.train:
        for i in range(layers.size - 1, -1, -1):
            backward(memory, layers[i], task, start)
        if task.image_gradient != 0:
            images.write_gradient(memory, layers[0], task, start, count)


# --- a thread's share -------------------------------------------------------------------------------------------------


@njit(inline="always")
def run_share(task, layers, share):
    """A share of the batch's blocks, a contiguous part, through the net."""
    memory = at_address(FLOAT32, task.memory + share * task.size * 4, task.size)
    starts = at_address(INT64, task.starts + share * LANES * 8, LANES)
    totals = at_address(FLOAT64, task.totals + share * TOTALS * 8, TOTALS)
    for i in range(totals.size):
        totals[i] = 0
    for i in range(layers.size):
        pack(memory, layers[i])
    if task.train:
        fill(memory, 0, task.sums_size, np.float32(0))
    if task.pad > 0:
        images.pad(memory, task)
    blocks = (task.batch + LANES - 1) // LANES
    for block in range(share * blocks // task.shares, (share + 1) * blocks // task.shares):
        start = block * LANES
        run_block(memory, layers, task, starts, start, min(LANES, task.batch - start), totals)
    if task.train:
        sum_biases(memory, layers)


@tile
def sum_lanes(memory: Floats, source: Int, target: Int):
    """LANES vectors at source -> one vector at target: the sum of each vector's lanes."""
    memory.store(target, sums_of_lanes([memory.load(source + i * LANES) for i in range(LANES)]))


@njit
def sum_biases(memory, layers):
    """Add up the lanes of the sums that each output has one of, in place: vectors become floats."""
    for i in range(layers.size):
        layer = layers[i]
        for sums in (layer.bias_sums, layer.coefficient_sums, layer.pool_bias_sums):
            if sums != NOWHERE:
                for first in range(0, layer.outputs, LANES):
                    sum_lanes(memory, sums + first * LANES, sums + first)


@njit
def write_gradients(task, layers, share):
    """Add up the shares' sums, one after the other, into MXNet's gradient arrays; each share a part of every array."""
    memories = at_address(FLOAT32, task.memory, task.shares * task.size)
    for i in range(layers.size):
        layer = layers[i]
        if share == 0:
            add_shares(memories, task, layer.bias_sums, layer.bias_gradient, layer.outputs)
            add_shares(memories, task, layer.coefficient_sums, layer.coefficient_gradient, layer.outputs)
            add_shares(memories, task, layer.pool_bias_sums, layer.pool_bias_gradient, layer.outputs)
        if layer.weight_gradient != 0:
            length = layer.patches * layer.kernel**2 if layer.kind == CONVOLUTION else layer.inputs
            for o in range(share * layer.outputs // task.shares, (share + 1) * layer.outputs // task.shares):
                start, target = layer.weight_sums + o * layer.sums_row, layer.weight_gradient + o * length * 4
                add_shares(memories, task, start, target, length)


@njit
def add_shares(memories, task, start, address, length):
    """The sum over the shares of `length` floats from `start` on in their memory -> an address, if it is not 0."""
    if address != 0:
        gradient = at_address(FLOAT32, address, length)
        part = memories[start : start + length]
        for i in range(length):
            gradient[i] = part[i]
        for share in range(1, task.shares):
            part = memories[share * task.size + start : share * task.size + start + length]
            for i in range(length):
                gradient[i] += part[i]


# --- a thread ---------------------------------------------------------------------------------------------------------


@njit(inline="always")
def run(task):
    """A thread's part of a RUN_TASK: whole shares of the batch, then whole shares of the gradients."""
    layers = at_address(LAYERS, task.layers, task.num_layers)
    share = count_up(task.counters, TAKEN)
    while share < task.shares:
        run_share(task, layers, share)
        count_up(task.counters, DONE)
        share = count_up(task.counters, TAKEN)
    if task.train:
        while count_of(task.counters, DONE) < task.shares:  # other threads are at it
            pass
        totals = at_address(FLOAT64, task.totals, task.shares * TOTALS)
        for share in range(task.shares):
            if totals[share * TOTALS + BAD_LABELS] > 0 or totals[share * TOTALS + BAD_ROWS] > 0:
                return
        share = count_up(task.counters, WRITTEN)
        while share < task.shares:
            write_gradients(task, layers, share)
            share = count_up(task.counters, WRITTEN)
