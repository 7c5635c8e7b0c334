"""Why a net is not accelerated: each reason in English has its Chinese, and `explain` says both of real nets."""

from __future__ import annotations

import ast
import copy
import pickle
import re
from string import Formatter

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon, nd
from mxnet.gluon import nn

from conftest import ROOT
from gluon_lenet.engines.accelerated import accelerate, explain
from gluon_lenet.engines.fused.function import NetFunction
from gluon_lenet.engines.fused.reading import SERVED, Unsupported, read_loss
from gluon_lenet.engines.proof import Record
from gluon_lenet.engines.reasons import CHINESE, Reason, enumerated, in_chinese
from gluon_lenet.nets.losses import SmoothedCrossEntropy

TREES = {
    path.name: ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "gluon_lenet/engines").rglob("*.py")
}


def words(text):
    return set(re.findall(r"\b[A-Za-z]\w*", text, re.ASCII))


# All that a Chinese reason may call by its Latin name: classes, arguments and functions, MXNet's or Python's.
NAMES = words(
    "AvgPool2D Conv2D Dense Dropout Flatten LeNet MAPLoss MXNet MaxPool2D NCHW NDArray NumPy RBFOutput ScaledTanh "
    "Sequential SmoothedCrossEntropy Subsampling TableConv2D Trainer add amp attach_grad axes batch_axis ceil_mode cpu "
    "float32 grad_req hybridize init npx null set_np softmax weight write"
)


def parts(template):
    """A template's text, without its fields, and those, with how they are formatted."""
    pieces = list(Formatter().parse(template))
    return "".join(text for text, *_ in pieces), {(name, spec) for _, name, spec, _ in pieces if name is not None}


def calls(name):
    """The calls of a function, or a class, of this name in the engines."""
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                yield node


# --- each template ----------------------------------------------------------------------------------------------------


def test_each_reason_in_the_source_has_its_chinese():
    found = set()
    for call in calls("Reason"):
        template = ast.literal_eval(call.args[0])  # else nothing could look for its Chinese
        _, fields = parts(template)
        assert {keyword.arg for keyword in call.keywords} == {name for name, _ in fields}, template
        found.add(template)
    assert found == set(CHINESE)


@pytest.mark.parametrize("template", CHINESE)
def test_chinese_has_the_fields_of_the_english_and_no_english_words(template):
    text, fields = parts(CHINESE[template])
    assert fields == parts(template)[1]
    assert words(text) <= NAMES
    assert not set(text) & set(",;:?!"), "punctuation is Chinese, too"
    assert not re.search(r"[\u4e00-\u9fff][A-Za-z0-9]|[A-Za-z0-9)][\u4e00-\u9fff]", text), "a space stands between"


def test_no_reason_is_a_plain_string():
    literals = ast.Constant | ast.JoinedStr
    errors = [*calls("Unsupported"), *calls("_unserved"), *calls("_NotInitializedError")]
    proofs = [node for node in ast.walk(TREES["proof.py"]) if isinstance(node, ast.Raise)]
    errors += [node.exc for node in proofs if isinstance(node.exc, ast.Call)]
    assert len(errors) > 40
    for error in errors:
        assert not isinstance(error.args[0], literals), ast.unparse(error)
    functions = [node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    functions = [function for function in functions if function.returns and "Reason" in ast.unparse(function.returns)]
    assert len(functions) > 5
    for function in functions:
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and isinstance(node.value, literals):
                assert node.value.value is None, ast.unparse(node)


# --- what a reason is -------------------------------------------------------------------------------------------------


def test_a_reason_is_its_english_and_knows_its_chinese():
    layer = Reason("layer {number}, {layer},", number=1, layer="Own({0: 'a'})")
    reason = Reason("{name} may not compute what its type says: {why}", name=layer, why=Reason("it has a forward hook"))
    english = "layer 1, Own({0: 'a'}), may not compute what its type says: it has a forward hook"
    chinese = "第 1 层（Own({0: 'a'})）的计算未必与它的类型相符：它注册了前向传播的钩子函数"
    assert reason == str(Unsupported(reason)) == f"{reason}" == english
    for same in (reason, copy.deepcopy(reason), pickle.loads(pickle.dumps(reason)), Unsupported(reason).args[0]):
        assert same == english
        assert in_chinese(same) == chinese
    assert in_chinese("a message of MXNet's") == "a message of MXNet's"
    names = enumerated(["relu", "sigmoid", "tanh"])
    assert (names, in_chinese(names)) == ("relu, sigmoid, tanh", "relu、sigmoid、tanh")


# --- real nets --------------------------------------------------------------------------------------------------------


def net_of(*layers, dtype="float32"):
    net = nn.Sequential()
    net.add(*layers)
    net.initialize()
    net.cast(dtype)
    net(nd.zeros((1, 4, 12, 12), dtype=dtype))
    return net


def conv(**options):
    return nn.Conv2D(4, 3, in_channels=4, **options)


def hooked():
    net = net_of(conv(), nn.Dense(10))
    net[1].register_forward_hook(lambda *args: None)
    return net


def with_a_method_of_its_own():
    net = net_of(conv(), nn.Dense(10))
    net[1].forward = lambda x: x
    return net


def with_its_forward_replaced():
    class Own(nn.Sequential):
        def forward(self, x):
            return super().forward(x) * 2

    net = Own()
    net.add(nn.Dense(10))
    net.initialize()
    net(nd.zeros((1, 4, 12, 12)))
    return net


def sharing():
    hidden = nn.Dense(10, in_units=10, prefix="hidden_")
    return net_of(nn.Dense(10), hidden, nn.Dense(10, in_units=10, params=hidden.params))


def half_frozen():
    net = net_of(conv(), nn.Dense(10, prefix="output_"))
    net[1].weight.grad_req = "null"
    return net


ACTIVATIONS = SERVED.fields["activations"]
SERVED_CHINESE = (
    "融合内核支持的是各层依次相连、没有嵌套的 Sequential，可以使用的层有 Conv2D（步幅为 1）、MaxPool2D 和 AvgPool2D"
    f"（窗口为 2x2，步幅为 2，接在卷积层之后）、激活函数（{in_chinese(ACTIVATIONS)}）、Flatten、Dense、Dropout，"
    "以及 LeNet-5 的 TableConv2D、Subsampling、ScaledTanh 和 RBFOutput"
)
CASES = {  # what makes a net, and its reason in Chinese
    "stride": (
        lambda: net_of(conv(strides=2), nn.Dense(10)),
        "第 0 层（Conv2D(4 -> 4, kernel_size=(3, 3), stride=(2, 2))）的步幅或膨胀率不是 1；SERVED",
    ),
    "groups": (
        lambda: net_of(conv(groups=2), nn.Dense(10)),
        "第 0 层（Conv2D(2 -> 4, kernel_size=(3, 3), stride=(1, 1), groups=2)）使用了分组卷积、NCHW 以外的数据布局，"
        "或者内核不认识的选项；SERVED",
    ),
    "pooling": (
        lambda: net_of(conv(), nn.MaxPool2D(3), nn.Dense(10)),
        "第 1 层（MaxPool2D(size=(3, 3), stride=(3, 3), padding=(0, 0), ceil_mode=False, global_pool=False, "
        "pool_type=max, layout=NCHW)）不是窗口为 2x2、步幅为 2、填充为 0 的池化；SERVED",
    ),
    "unknown layer": (
        lambda: net_of(nn.Dense(8), nn.LeakyReLU(0.1), nn.Dense(10)),
        "第 1 层（LeakyReLU(0.1)）是内核不认识的层；SERVED",
    ),
    "activation first": (
        lambda: net_of(nn.Activation("relu"), nn.Dense(10)),
        "第 0 层（Activation(relu)）是激活函数，却在第一个卷积层或全连接层之前；SERVED",
    ),
    "dropout at the end": (
        lambda: net_of(nn.Dense(10), nn.Dropout(0.5)),
        "网络以激活函数或丢弃法结尾（最后一层是 Dropout(p = 0.5, axes=())），而内核需要它直接输出各个类别的得分",
    ),
    "maps": (lambda: net_of(conv()), "最后一层必须是 Dense 或 RBFOutput，由它输出各个类别的得分；SERVED"),
    "a forward of its own": (with_its_forward_replaced, "它是 Own，不是 Sequential"),
    "hook": (hooked, "第 1 层（Dense(400 -> 10, linear)）的计算未必与它的类型相符：它注册了前向传播的钩子函数"),
    "method": (
        with_a_method_of_its_own,
        "第 1 层（Dense(400 -> 10, linear)）的计算未必与它的类型相符：它另外定义了自己的 forward",
    ),
    "shared": (
        sharing,
        "第 2 层（Dense(10 -> 10, linear)）的计算未必与它的类型相符：它与另一层共享参数 hidden_weight",
    ),
    "float64": (
        lambda: net_of(conv(), nn.Dense(10), dtype="float64"),
        "它的输入是 cpu(0) 上的 float64 数组，而内核需要的是 cpu(0) 上稠密的 float32 数组",
    ),
    "half frozen": (
        half_frozen,
        "output_bias 参与训练，output_weight 却被冻结，这时 MXNet 不计算前者的梯度；请把两者都冻结，或者都不冻结",
    ),
}


X = np.random.default_rng(0).random((2, 4, 12, 12), np.float32)


def called(net, *args):
    """The two lines of `explain`, after one call."""
    with accelerate():
        net(*args)
        return explain(net).splitlines()


@pytest.mark.parametrize("name", CASES)
def test_explain_says_in_chinese_why_a_net_is_not_served(name):
    make, why = CASES[name]
    net = make()
    english, chinese = called(net, nd.array(X, dtype="float64" if name == "float64" else "float32"))
    why = why.replace("SERVED", SERVED_CHINESE)
    assert chinese == f"{net.name} 由 MXNet 计算，原因：{why}。"
    assert english.startswith(f"{net.name} is computed by MXNet: ")
    assert english.isascii()
    own = [
        net.name,
        *net.collect_params(),
        repr(net),
        type(net).__name__,
        "forward",
        "float64",
        in_chinese(ACTIVATIONS),
    ]
    assert words(chinese) <= NAMES.union(*map(words, own))


def test_explain_says_in_chinese_why_a_call_is_not_served():
    net = nn.Sequential(prefix="net_")
    net.add(conv(prefix="conv_"), nn.Dense(10))
    net.initialize()
    assert called(net, nd.array(X))[1] == "net 由 MXNet 计算，原因：它的参数尚未初始化。"
    assert called(net, mx.sym.var("x"))[1] == "net 由 MXNet 计算，原因：调用它时，传入的不是单独一个 NDArray。"
    convolution = mx.nd.Convolution
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mx.nd, "Convolution", lambda *args, **options: convolution(*args, **options))
        assert called(net, nd.array(X))[1] == "net 由 MXNet 计算，原因：mxnet.ndarray.Convolution 已被替换。"
    net.initialize(ctx=mx.cpu(1), force_reinit=True)
    assert called(net, nd.array(X, ctx=mx.cpu(1)))[1] == (
        "net 由 MXNet 计算，原因：它的输入是 cpu(1) 上的 float32 数组，而内核需要的是 cpu(0) 上稠密的 float32 数组。"
    )


def test_explain_says_in_chinese_what_differs(monkeypatch):
    forward = NetFunction.forward
    monkeypatch.setattr(NetFunction, "forward", lambda *args: forward(*args) * np.float32(1.5))
    net = net_of(conv(), nn.Dense(10))
    with pytest.warns(UserWarning, match="the kernels' result differs from MXNet's: its output, by"):
        _, chinese = called(net, nd.array(X))
    number = r"\d\.\de[-+]\d\d"
    why = f"内核的结果与 MXNet 不一致：就输出而言，两者之差的范数是 {number}，而 MXNet 的结果的范数是 {number}"
    assert re.fullmatch(f"{net.name} 由 MXNet 计算，原因：{why}。", chinese)


def test_a_loss_is_said_in_chinese():
    smoothed, weighted = SmoothedCrossEntropy(), gluon.loss.SoftmaxCrossEntropyLoss(weight=2)
    smoothed.smoothing = 2
    replaced = gluon.loss.SoftmaxCrossEntropyLoss()
    replaced.hybrid_forward = lambda *args: None
    for loss, why in [
        (
            gluon.loss.L2Loss(),
            "内核能计算的损失函数是标签为类别编号的 softmax 交叉熵、SmoothedCrossEntropy 和 MAPLoss，不包括 L2Loss",
        ),
        (smoothed, "损失函数（SmoothedCrossEntropy）的平滑系数是 2，不在 0 和 1 之间"),
        (weighted, "损失函数（SoftmaxCrossEntropyLoss）设置了 weight，或者 batch_axis 不是 0"),
        (
            replaced,
            "损失函数（SoftmaxCrossEntropyLoss）的计算未必与它的类型相符：它另外定义了自己的 hybrid_forward",
        ),
    ]:
        with pytest.raises(Unsupported) as refused:
            read_loss(loss, Record())
        assert in_chinese(refused.value.args[0]) == why
