"""A net and a batch -> loss, correct count and gradients: by MXNet's autograd, or by the fused CPU kernels.

A training step can be computed by either of two engines. base.py declares what both promise; `choose` selects one.
"""
