"""A sequential LeNet and uint8 images -> loss, correct count and gradients, several times as fast as MXNet on a CPU.

vectors.py      Python functions that write LLVM instructions for one vector of 16 (or 8) images
activations.py  each activation, forward and backward
tiles.py        the register tiles written with them: convolution, pooling, dense layer, ..., forward and backward
blocks.py       loops over the tiles: a block of images through all layers and back
rules.py        an optimizer's step for all weights
compiled.py     the kernel made of these, and tasks for it
program.py      a Gluon net -> the table of layers that blocks.py works through
weights.py      the net's parameters and their gradients, where the table says they are
updater.py      what a trainer hands its steps to
arrays.py       MXNet's memory, without copies
threads.py      a C function, called by several threads at once
net.py          `FusedNet`: all of these behind three calls
engine.py       `FusedNet` as an engine of the training loop
"""
