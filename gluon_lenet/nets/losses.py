"""Logits (b, classes) and labels (b,) -> one loss per image (b,): LeNet-5's MAP loss (equation 9)."""

from math import exp

from mxnet.gluon.loss import Loss


class MAPLoss(Loss):
    """The discriminative loss LeNet-5 was trained with (LeCun et al. 1998, section II.C, equation 9).

    For penalties y_i = -logits_i, as `layers.RBFOutput` gives them, and the image's class D:

        y_D + log(e^-j + sum_i e^-y_i)

    The first term lowers the correct unit's penalty, the second raises the others ("maximum a posteriori"); j, the
    constant penalty of a rubbish class, keeps penalties that are already large from growing further. Unlike softmax
    cross-entropy, it depends on the penalties themselves, not only on their differences.

    Penalties are squared distances, at least 0, so nothing overflows, and the logarithm's argument is at least e^-j.

    Args:
        j: positive. The paper gives no value; the reference run used 0.1.
    """

    def __init__(self, j: float = 0.1, **kwargs):
        super().__init__(weight=None, batch_axis=0, **kwargs)
        self.j = j

    def hybrid_forward(self, F, logits, label):
        """(b, classes), (b,) -> (b,)."""
        rest = F.log(F.sum(F.exp(logits), axis=1) + exp(-self.j))
        return rest - F.pick(logits, label, axis=1)
