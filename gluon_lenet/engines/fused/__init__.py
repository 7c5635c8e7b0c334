"""A sequential LeNet and uint8 images -> loss, correct count and gradients, several times as fast as MXNet on a CPU.

The language the kernels are written in:

    sizes          the processor -> how many images a vector holds, how many vectors a tile
    vectors        Python functions that write LLVM instructions for vectors: register tiles
    memory         addresses -> arrays and counters
    tables         the tables the kernels read; drawings of a block's life and of a thread's memory

A file for each kind of work, with its forward and backward pass, first the tiles, then the loops over them:

    images  convolution  maxpool  subsampling  dense  distances  activations  dropout  loss

All of it:

    receptive      a single image: receptive fields in the lanes, in place of images
    blocks         a block of images through all layers and back, shared out to threads
    rules          an optimizer's step for all weights
    compiled       the kernel made of these, kept on disk
    threads        a C function, called by several threads at once

From Gluon:

    reading        a Gluon net and a loss -> steps, or why the kernels cannot compute it
    program        steps -> the table of layers
    arrays         MXNet's memory, without copies
    weights        the net's parameters and their gradients, where the table says they are
    updater        what a trainer hands its steps to
    net            `FusedNet`: all of these behind three calls
    function       a net as a function of its parameters, with the gradient from any gradient of its logits
    engine         `FusedNet` as an engine of the training loop
"""
