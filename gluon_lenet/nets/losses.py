"""Logits (b, classes) and labels (b,) -> one loss per image (b,): LeNet-5's MAP loss, smoothed cross-entropy."""

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


class SmoothedCrossEntropy(Loss):
    """Softmax cross-entropy of labels that are not quite certain (Szegedy et al. 2016, section 7).

    The class of an image is expected with the probability 1 - smoothing, and each of the classes, this one included,
    with smoothing / classes more:

        -(1 - smoothing) log p_label - smoothing * mean_i log p_i

    A net that has fitted the training images is thus not driven to ever larger logits.

    Args:
        smoothing: from 0, which gives softmax cross-entropy, to 1.
    """

    def __init__(self, smoothing: float = 0.1, **kwargs):
        super().__init__(weight=None, batch_axis=0, **kwargs)
        self.smoothing = smoothing

    def hybrid_forward(self, F, logits, label):
        """(b, classes), (b,) -> (b,)."""
        log_p = F.log_softmax(logits)
        return (self.smoothing - 1) * F.pick(log_p, label, axis=1) - self.smoothing * F.mean(log_p, axis=1)
