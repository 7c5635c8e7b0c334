"""The LeNet chapter of 《动手学深度学习》 (d2l-zh v1, MXNet Gluon), running again.

Importing this package puts back what today's NumPy, Python and IPython took from MXNet and d2lzh (see compat.py) and
nothing more: MXNet itself is loaded at the first use of a name that needs it.
"""

from gluon_lenet import compat

__version__ = "0.1.0"

compat.prepare()
