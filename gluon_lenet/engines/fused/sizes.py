"""The processor -> the sizes of vectors and register tiles."""

from __future__ import annotations

import platform

from numba.core.registry import cpu_target

FEATURES = set(cpu_target.target_context.codegen().magic_tuple()[2].split(","))  # of the processor: "+avx2", ...

# Images side by side in one vector, and images in a block: what a register holds with AVX-512, or with AVX2. (Older
# processors, and ARM's, work too: LLVM makes two registers of a vector.)
LANES = 16 if "+avx512f" in FEATURES else 8
REGISTERS = 32 if "+avx512f" in FEATURES else 16  # vectors a tile can hold
# Whether a product and a sum in one, `Value.times_plus`, are rounded only at the end.
ROUNDS_ONCE = "+fma" in FEATURES or platform.machine() == "aarch64"

# Heights and widths of kernels with tiles of their own; a convolution's window of another size is put together of them.
KERNELS = (5, 3)

# The first size of each tile: as many sums as leave a few registers free for the factors. The others, down to 1, are
# for the rest of a layer whose size is not a multiple of the first.
if REGISTERS == 32:
    OUTPUTS = (4, 3, 2, 1)  # channels of a convolution, in a window of 2x2 pixels
    CHANNELS = (2, 1)  # of a convolution's input gradient: columns + kernel - 1 sums per channel
    MAXPOOL_CHANNELS = (3, 1)  # the same with max pooling: kernel + 1 sums per channel
    STRIPS = {5: [range(5)], 3: [range(3)]}  # rows of the kernel whose weight gradients are summed together
    DENSE_OUTPUTS, DENSE_INPUTS = (12, 4, 1), (16, 4, 1)  # neurons, forward and backward
    GRADIENT_OUTPUTS, GRADIENT_VECTORS = 6, (4, 1)  # of a dense layer's weight gradient
else:
    OUTPUTS = (2, 1)
    CHANNELS = (1,)
    MAXPOOL_CHANNELS = (2, 1)
    STRIPS = {5: [range(2), range(2, 4), range(4, 5)], 3: [range(3)]}  # 10 sums at most
    DENSE_OUTPUTS, DENSE_INPUTS = (12, 4, 1), (12, 4, 1)
    GRADIENT_OUTPUTS, GRADIENT_VECTORS = 6, (2, 1)
COLUMNS_OF_5, COLUMNS_OF_3 = (8, 1), (8, 4, 2, 1)  # of a convolution's input gradient, for each kernel
