"""Why the kernels cannot serve a call: a template and its fields -> the text in English, and the same in Chinese.

The English stands where the reason is found, the Chinese in `CHINESE` below, by the English template.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce


class Reason(str):
    """The text in English, that of `template.format(**fields)`; a field may be a reason, too.

    It is a string, so that messages, warnings and logs take it as any other; `in_chinese` needs what it is made of.
    """

    def __new__(cls, template: str, **fields) -> Reason:
        """The template, filled in."""
        reason = super().__new__(cls, template.format(**fields))
        reason.template, reason.fields = template, fields
        return reason

    def __getnewargs_ex__(self) -> tuple[tuple, dict]:
        return (self.template,), self.fields  # copies and pickles are made as the original was


def enumerated(names: Iterable[str]) -> Reason:
    """The names, with commas between them."""
    return reduce(lambda names, name: Reason("{names}, {name}", names=names, name=name), names)


def in_chinese(reason: object) -> object:
    """A reason in Chinese. What is none stays as it is: names, shapes, and the text of an error of MXNet's."""
    if not isinstance(reason, Reason):
        return reason
    return CHINESE[reason.template].format(**{name: in_chinese(value) for name, value in reason.fields.items()})


CHINESE = {
    "{names}, {name}": "{names}、{name}",
    # What a reason speaks of. Each begins and ends with a Chinese character or bracket, as no space stands beside it.
    "the net": "网络",
    "layer {number}, {layer},": "第 {number} 层（{layer}）",
    "the activation of {name}": "{name}的激活函数",
    "the loss, {loss},": "损失函数（{loss}）",
    "its output": "输出",
    "its input's gradient": "关于输入的梯度",
    "the gradient of {parameter}": "参数 {parameter} 的梯度",
    # The call.
    "it is a {type}, not a Sequential": "它是 {type}，不是 Sequential",
    "it is called by a thread of MXNet's own, in a custom operator or its backward pass": (
        "调用它的是 MXNet 自己的线程（在自定义算子或其反向传播中）"
    ),
    "it is called with something else than one array": "调用它时，传入的不是单独一个 NDArray",
    "its input is {dtype} on {context}, not dense float32 on cpu(0)": (
        "它的输入是 {context} 上的 {dtype} 数组，而内核需要的是 cpu(0) 上稠密的 float32 数组"
    ),
    "its input has the shape {shape}": "内核不接受形状为 {shape} 的输入",
    "its parameters are not initialized yet": "它的参数尚未初始化",
    "MXNet is in NumPy mode (npx.set_np)": "MXNet 处于 NumPy 模式（npx.set_np）",
    "MXNet computes in mixed precision (amp.init)": "MXNet 正在使用混合精度（amp.init）",
    # The comparison with MXNet.
    "its output has the shape {expected}, not {computed}": (
        "MXNet 给出的输出形状是 {expected}，内核给出的却是 {computed}"
    ),
    "the kernels' result differs from MXNet's: {name}, by {distance:.1e} of {size:.1e}": (
        "内核的结果与 MXNet 不一致：就{name}而言，两者之差的范数是 {distance:.1e}，而 MXNet 的结果的范数是 {size:.1e}"
    ),
    # The net as a whole.
    "the fused kernels serve a flat Sequential of Conv2D (stride 1), MaxPool2D and AvgPool2D 2x2 "
    "(stride 2, after a convolution), {activations}, Flatten, Dense, Dropout, and LeNet-5's TableConv2D, Subsampling, "
    "ScaledTanh and RBFOutput": (
        "融合内核支持的是各层依次相连、没有嵌套的 Sequential，可以使用的层有 Conv2D（步幅为 1）、MaxPool2D 和 AvgPool2D"
        "（窗口为 2x2，步幅为 2，接在卷积层之后）、激活函数（{activations}）、Flatten、Dense、Dropout，以及 LeNet-5 的 "
        "TableConv2D、Subsampling、ScaledTanh 和 RBFOutput"
    ),
    "{why}; {served}": "{why}；{served}",
    "{type} is not a Sequential": "{type} 不是 Sequential",
    "the last layer must be a Dense or RBFOutput that gives the logits": (
        "最后一层必须是 Dense 或 RBFOutput，由它输出各个类别的得分"
    ),
    "the last layer, {layer}, has an activation or dropout; the kernels want logits": (
        "网络以激活函数或丢弃法结尾（最后一层是 {layer}），而内核需要它直接输出各个类别的得分"
    ),
    "the last layer, {layer}, gives maps of shape {shape}; the kernels want logits": (
        "最后一层（{layer}）的输出是形状为 {shape} 的特征图，而内核需要的是各个类别的得分"
    ),
    "images of shape {shape} are too small: at least {least} pixels": (
        "形状为 {shape} 的图像太小，至少要有 {least} 个像素"
    ),
    "all parameters are frozen": "所有参数都已冻结",
    "{bias} is trained and {weight} is frozen, for which MXNet has no gradient; freeze both or none": (
        "{bias} 参与训练，{weight} 却被冻结，这时 MXNet 不计算前者的梯度；请把两者都冻结，或者都不冻结"
    ),
    # A layer.
    "{name} comes after an RBFOutput": "{name}接在 RBFOutput 之后",
    "{name} is of a kind the kernels do not know": "{name}是内核不认识的层",
    "{name} has the activation {activation}": "{name}的激活函数是 {activation}",
    "{name} has a stride or a dilation other than 1": "{name}的步幅或膨胀率不是 1",
    "{name} has groups, a layout other than NCHW or options the kernels do not know": (
        "{name}使用了分组卷积、NCHW 以外的数据布局，或者内核不认识的选项"
    ),
    "{name} computes {operation}": "{name}计算的是 {operation}",
    "{name} is a convolution neither 3x3 nor 5x5": "{name}的卷积窗口既不是 3x3，也不是 5x5",
    "{name} is a convolution of 1x1 maps": "{name}是对 1x1 的特征图做卷积",
    "{name} gets an input of {shape}, too small for it": "对{name}来说，形状为 {shape} 的输入太小",
    "{name} does not flatten its input": "{name}没有把输入展平",
    "{name} gets maps of shape {shape}, not a vector": "{name}的输入是形状为 {shape} 的特征图，不是向量",
    "{name} gets a vector of {length} numbers, not maps": "{name}的输入是长度为 {length} 的向量，不是特征图",
    "{name} has weights for {expected} outputs, and {outputs} outputs": (
        "{name}的权重对应 {expected} 个输出，而它有 {outputs} 个输出"
    ),
    "{name} expects {expected} inputs but gets {inputs}": "{name}应有 {expected} 个输入，实际得到 {inputs} 个",
    "{name} does not pool 2x2 with stride 2 and padding 0": "{name}不是窗口为 2x2、步幅为 2、填充为 0 的池化",
    "{name} has ceil_mode, a layout other than NCHW or options the kernels do not know": (
        "{name}使用了 ceil_mode、NCHW 以外的数据布局，或者内核不认识的选项"
    ),
    "{name} does not follow a convolution": "{name}没有接在卷积层之后",
    "{name} is an activation before the first convolution or dense layer": (
        "{name}是激活函数，却在第一个卷积层或全连接层之前"
    ),
    "{name} comes right after an activation or dropout": "{name}紧跟在激活函数或丢弃法之后",
    "{name} has axes, or a rate that is not from 0 to 1": "{name}设置了 axes，或者丢弃概率不在 0 和 1 之间",
    "{name} does not follow a convolution, pooling, dense layer or activation": (
        "{name}没有接在卷积层、池化层、全连接层或激活函数之后"
    ),
    # The loss.
    "they compute softmax cross-entropy of class numbers, SmoothedCrossEntropy or MAPLoss, not {loss}": (
        "内核能计算的损失函数是标签为类别编号的 softmax 交叉熵、SmoothedCrossEntropy 和 MAPLoss，不包括 {loss}"
    ),
    "{name} has a weight, or a batch axis other than 0": "{name}设置了 weight，或者 batch_axis 不是 0",
    "{name} has a smoothing that is not from 0 to 1, {smoothing}": "{name}的平滑系数是 {smoothing}，不在 0 和 1 之间",
    "they compute {loss} of class numbers along the last axis of logits only": (
        "内核计算 {loss} 时，标签必须是类别编号，输入必须是未经 softmax 的得分，类别必须在最后一维"
    ),
    # What may compute something else than its type says.
    "{name} may not compute what its type says: {why}": "{name}的计算未必与它的类型相符：{why}",
    "{owner}.{name} was replaced": "{owner}.{name} 已被替换",
    "it has a {name} of its own": "它另外定义了自己的 {name}",
    "it has a forward hook": "它注册了前向传播的钩子函数",
    "it has an operator hook": "它注册了算子的钩子函数",
    "it is optimized for the backend {backend}": "它已经针对后端 {backend} 优化过",
    "its {name} is not the parameter it was made with": "它现在的 {name} 不是创建时的那个参数",
    "its parameter {parameter} is a {type}": "它的参数 {parameter} 的类型是 {type}",
    "its parameter {parameter} is changed: {why}": "它的参数 {parameter} 被改动过：{why}",
    "its parameter {parameter} is used by another layer, too": "它与另一层共享参数 {parameter}",
    "{block} was hybridized as another net than it is now": "{block} 经 hybridize() 得到的计算图与现在的网络不符",
    "{block} was hybridized with other parameters than it has now": (
        "{block} 经 hybridize() 得到的计算图用的不是它现在的参数"
    ),
    # Parameters and their gradients.
    "{parameter} is on {contexts}; the kernels run on cpu(0)": (
        "参数 {parameter} 在 {contexts} 上，而内核在 cpu(0) 上运行"
    ),
    "{parameter} is {dtype}; the kernels compute in float32": (
        "参数 {parameter} 的类型是 {dtype}，而内核用 float32 计算"
    ),
    "{parameter} is no dense array": "参数 {parameter} 不是稠密数组",
    "the gradient of {parameter} is no dense array": "参数 {parameter} 的梯度不是稠密数组",
    "{parameter} has grad_req 'add'; the kernels serve 'write' and 'null'": (
        "参数 {parameter} 的 grad_req 是 'add'，而内核只支持 'write' 和 'null'"
    ),
    "{parameter} has a gradient that the trainer does not know (attach_grad)": (
        "参数 {parameter} 的梯度是用 attach_grad 另外分配的，Trainer 并不知道"
    ),
    "{parameter} and {other} share memory; the kernels serve parameters that do not": (
        "参数 {parameter} 与 {other} 共用内存，而内核只支持互不共用内存的参数"
    ),
}
