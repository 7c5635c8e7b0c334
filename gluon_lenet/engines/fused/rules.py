"""Weights, their gradients and an optimizer's states -> the weights after a step, by the rules of MXNet's SGD and Adam.

Each rule computes what MXNet's operation computes, in the same order, so the results are the same bits.
"""

from __future__ import annotations

import numpy as np
from numba import from_dtype, njit

from gluon_lenet.engines.fused.memory import FLOAT32, FLOAT64, at_address, count_up
from gluon_lenet.engines.fused.tables import BAD_WEIGHTS, PARAMETER, TAKEN, TOTALS

SGD, MOMENTUM, ADAM = range(3)
PARAMETERS = from_dtype(PARAMETER)


@njit(inline="always")
def update(task):
    """A thread's part of an UPDATE_TASK: whole shares of the weights."""
    share = count_up(task.counters, TAKEN)
    while share < task.shares:
        update_share(task, share)
        share = count_up(task.counters, TAKEN)


@njit
def update_share(task, share):
    """Take the optimizer's step with a share of every array; counts the weights that are NaN or infinite after it."""
    parameters = at_address(PARAMETERS, task.parameters, task.num_parameters)
    bad = 0
    for i in range(parameters.size):
        row = parameters[i]
        start, stop = share * row.size // task.shares, (share + 1) * row.size // task.shares
        weights = at_address(FLOAT32, row.weight + start * 4, stop - start)
        gradients = at_address(FLOAT32, row.gradient + start * 4, stop - start)
        if task.rule == ADAM:
            means = at_address(FLOAT32, row.first + start * 4, stop - start)
            squares = at_address(FLOAT32, row.second + start * 4, stop - start)
            bad += adam(weights, gradients, means, squares, row, task)
        elif task.rule == MOMENTUM:
            steps = at_address(FLOAT32, row.first + start * 4, stop - start)
            bad += sgd_with_momentum(weights, gradients, steps, row, task)
        else:
            bad += sgd(weights, gradients, row, task)
    totals = at_address(FLOAT64, task.totals + share * TOTALS * 8, TOTALS)
    totals[BAD_WEIGHTS] = bad


@njit
def sgd(weights, gradients, row, task):
    """weight -= lr (rescale gradient + wd weight); the number of weights not finite."""
    lr, wd, rescale = np.float32(row.lr), np.float32(row.wd), np.float32(task.rescale)
    bad = 0
    for i in range(weights.size):
        weight = weights[i]
        weight += np.float32(0) - lr * wd * weight - lr * rescale * gradients[i]
        weights[i] = weight
        bad += weight - weight != 0
    return bad


@njit
def sgd_with_momentum(weights, gradients, steps, row, task):
    """step = momentum step - lr (rescale gradient + wd weight), weight += step; the number of weights not finite."""
    lr, wd = np.float32(row.lr), np.float32(row.wd)
    rescale, momentum = np.float32(task.rescale), np.float32(task.momentum)
    bad = 0
    for i in range(weights.size):
        weight = weights[i]
        step = momentum * steps[i] - lr * wd * weight - lr * rescale * gradients[i]
        weight += step
        steps[i], weights[i] = step, weight
        bad += weight - weight != 0
    return bad


@njit
def adam(weights, gradients, means, squares, row, task):
    """Adam (Kingma, Ba 2014), its bias correction within lr; the number of weights not finite."""
    lr, wd, rescale = np.float32(row.lr), np.float32(row.wd), np.float32(task.rescale)
    beta1, beta2, epsilon = np.float32(task.beta1), np.float32(task.beta2), np.float32(task.epsilon)
    one, bad = np.float32(1), 0
    for i in range(weights.size):
        weight = weights[i]
        gradient = rescale * gradients[i] + wd * weight
        mean = beta1 * means[i] + (one - beta1) * gradient
        square = beta2 * squares[i] + (one - beta2) * gradient * gradient
        weight -= lr * mean / (np.sqrt(square) + epsilon)
        means[i], squares[i], weights[i] = mean, square, weight
        bad += weight - weight != 0
    return bad
