"""Logits (b, classes) and labels (b,) -> one loss an image (b,): the loss of 1998, which stock Gluon lacks."""

from math import exp

from mxnet.gluon.loss import Loss


class MAPLoss(Loss):
    """The discriminative loss LeNet-5 was trained with (LeCun et al. 1998, section II.C, equation 9).

    For penalties y_i = -logits_i, as `layers.RBFOutput` gives them, and the image's class D:

        y_D + log(e^-j + sum_i e^-y_i)

    The first term pulls the right unit's penalty down, the second pushes the others up ("maximum a posteriori"); j, a
    rubbish class of constant penalty, keeps penalties that are already large from being pushed further. Unlike softmax
    cross-entropy it depends on the penalties themselves, not only on their differences.

    The penalties are squared distances, at least 0: nothing overflows, and the logarithm's argument is at least e^-j.

    Args:
        j: positive. The paper says no more than that; 0.1 was used in the reference run.
    """

    def __init__(self, j: float = 0.1, **kwargs):
        super().__init__(weight=None, batch_axis=0, **kwargs)
        self.j = j

    def hybrid_forward(self, F, logits, label):
        """(b, classes), (b,) -> (b,)."""
        rest = F.log(F.sum(F.exp(logits), axis=1) + exp(-self.j))
        return rest - F.pick(logits, label, axis=1)
