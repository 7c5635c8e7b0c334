"""A net and a batch -> loss, correct count and gradients: by MXNet's autograd, or by the fused CPU kernels.

This is the one place where a training step can be computed in two ways. What both promise stands in base.py; `choose`
takes one of them.
"""
