"""Submissions that are right, wrong, dishonest or hostile, and the points that each deserves.

They answer the assignment of SEED, whose net is conv 7@5x5, max pooling, conv 15@3x3, mean pooling, dense 72-42-10 with
ReLU on 24x24 images, trained by SGD with momentum; corr2d takes a stride, pool2d takes maxima, and k is 3.
"""

from __future__ import annotations

import re

import nbformat

SEED = 1739
TESTS = {"shapes": 7, "params": 6, "corr2d": 9, "corr2d-multi": 7, "pool2d": 8, "net": 10, "accuracy": 9, "step": 12}
TESTS |= {"loop": 8, "train": 10}
BY_HAND = {"experiment": 6, "question-1": 4, "question-2": 4}

SOLUTION = re.compile(r"[^\n]*BEGIN SOLUTION[^\n]*\n(.*?)\n[^\n]*END SOLUTION", re.DOTALL)

PART = {"shapes": "solution", "params": "solution"}
PART_POINTS = {"shapes": 7, "params": 6}
CODED = dict.fromkeys(("corr2d", "corr2d-multi", "pool2d", "net", "accuracy", "step", "loop"), "solution")
CODED_POINTS = {name: TESTS[name] for name in CODED}
STEPS = {"net": "solution", "step": "solution", "loop": "solution"}
STEPS_POINTS = {"net": 10, "step": 12, "loop": 8}

CORR = """
def corr2d(X, K, stride):
    (kh, kw), (a, b) = K.shape, {pair}
    Y = np.zeros(((X.shape[0] - kh) // a + 1, (X.shape[1] - kw) // b + 1), dtype=np.result_type(X, K))
    for i in range(Y.shape[0]):
        for j in range(Y.shape[1]):
            Y[i, j] = (X[i * a : i * a + kh, j * b : j * b + kw] * {kernel}).sum()
    {end}
    return Y
"""
GLUON = """
def corr2d(X, K, stride):
    X, K = (nd.array(A[None, None], dtype="{dtype}") for A in (X, K))
    return nd.Convolution(X, K, kernel=K.shape[2:], num_filter=1, stride=stride, no_bias=True)[0, 0].asnumpy()
"""
MULTI = """
def corr2d_multi(X, K, b, stride):
    return np.stack([sum(corr2d(x, k, stride) for x, k in zip(X, kernels)) for kernels in K])
"""
POOL = """
def pool2d(X, window, stride):
    (ph, pw), (sh, sw) = window, stride
    Y = np.zeros(((X.shape[0] - ph) // sh + 1, (X.shape[1] - pw) // sw + 1))
    for i in range(Y.shape[0]):
        for j in range(Y.shape[1]):
            Y[i, j] = {what}
    return Y
"""
WINDOW = "X[i * sh : i * sh + ph, j * sw : j * sw + pw]"
NET = """
def get_net():
    net = nn.Sequential()
    net.add(
        nn.Conv2D(7, kernel_size=5, activation="{first}"), nn.{pool1}Pool2D(2, 2),
        nn.Conv2D(15, kernel_size=3, activation="relu"), nn.{pool2}Pool2D(2, 2),
        nn.Dense(72, activation="relu"), nn.Dense(42, activation="relu"), nn.Dense(10{last}),
    )
    return net
{more}
"""
RIGHT = {"first": "relu", "pool1": "Max", "pool2": "Avg", "last": "", "more": ""}
ACCURACY = """
def evaluate_accuracy(data_iter, net, k=1):
    right, all_of_them, means = 0, 0, []
    for X, y in data_iter:
        best = np.argsort(net(X).asnumpy(), axis=1)[:, -{k}:]
        right += int((best == y.asnumpy().reshape(-1, 1)).sum())
        all_of_them += len(best)
        means.append((best == y.asnumpy().reshape(-1, 1)).sum() / len(best))
    return {result}
"""
STEP = """
def train_step(net, loss, trainer, X, y):
    {record}
        l = loss(net(X), y)
    l.backward()
    {step}
    return {result}
"""
STEP_RIGHT = {"record": "with autograd.record():", "step": "trainer.step(len(X))", "result": "l.sum().asscalar()"}
LOOP = """
def train(net, train_iter, loss, trainer, num_epochs):
    losses = []
    for epoch in range(num_epochs):
        total, n, means = 0, 0, []
        for X, y in {batches}:
            total += train_step(net, loss, trainer, X, y)
            n += len(X)
            means.append(l := total / n)
        losses.append({result})
    return losses
"""
TRAIN = """
lr, num_epochs = {lr}, {epochs}
def train_net(net, train_iter):
    {before}
    trainer = gluon.Trainer(net.collect_params(), {optimizer})
    return train(net, train_iter, gluon.loss.SoftmaxCrossEntropyLoss(), trainer, num_epochs)
"""
SGD = '"sgd", {"learning_rate": lr, "momentum": 0.8}'
SHAPES = """
shapes = {"conv1": (7, 20, 20), "pool1": (7, 10, 10), "conv2": (15, 8, 8), "pool2": (15, 4, 4)}
shapes |= {"dense1": (72,), "dense2": (42,), "output": (10,)}
"""
PARAMS = "params = {'conv1': 182, 'conv2': 960, 'dense1': 17352, 'dense2': 3066, 'output': 430, 'total': 21990}\n"

# Right, but not as one would write it
SHADOWS = "sum = max = 0  # 初学者常用的变量名\nlist, iter, zip, abs, float = [1, 2], 5, 'a.zip', None, 1.5\n"
FROM_LISTS = """
class 窗口:
    def __init__(self, X, K, 步幅):
        self.X, self.K, (self.a, self.b) = X.tolist(), K.tolist(), 步幅

    def 求和(self, i, j):
        y = 0
        for u in range(len(self.K)):
            for v in range(len(self.K[0])):
                y += self.X[i * self.a + u][j * self.b + v] * self.K[u][v]
        return y

def corr2d(X, K, stride):
    height, width = [(n - k) // s + 1 for n, k, s in np.transpose([X.shape, K.shape, stride])]
    return tuple([窗口(X, K, stride).求和(i, j) for j in range(width)] for i in range(height))
"""
TWO_PASSES = """
def evaluate_accuracy(data_iter, net, k=1):
    n = len([label for _, y in data_iter for label in y.asnumpy()])
    best = [nd.topk(net(X), k=k).asnumpy() == y.asnumpy()[:, None] for X, y in data_iter]
    return nd.array([np.concatenate(best).sum() / n])
"""
ONE_LOSS = """
def train_step(net, loss, trainer, X, y):
    with autograd.record():
        l = loss(net(X), y).mean()
        l.backward()
    trainer.step(1)
    return (l * y.size).asscalar()
"""

# Right and wrong: name -> answers, points by test

RIGHT_AND_NONE = {
    "solution": (PART | CODED | {"train": "solution", "question-1": "因为。"}, TESTS),
    "blank": ({}, {}),
    "unusual": (
        {
            "shapes": SHADOWS + SHAPES,
            "corr2d": FROM_LISTS,
            "net": "solution",
            "accuracy": TWO_PASSES,
            "step": ONE_LOSS,
            "loop": LOOP.format(batches="train_iter", result="total / n").replace(
                "return losses", "return np.array(losses)"
            ),
        },
        {"shapes": 7, "corr2d": 9, "net": 10, "accuracy": 9, "step": 12, "loop": 8},
    ),
}
WRONG = {
    "numpy-types": (
        {
            "shapes": SHAPES + "shapes = {n: tuple(map(np.int64, s)) for n, s in shapes.items()}",
            "params": PARAMS + "params = {n: np.int32(p) for n, p in params.items()}",
        },
        PART_POINTS,
    ),
    "one-slip": ({"shapes": SHAPES + 'shapes["pool1"] = (7, 10, 9)', "params": "solution"}, {"shapes": 6, "params": 6}),
    "follows-its-slip": (
        {
            "shapes": SHAPES + 'shapes["pool2"] = (15, 5, 5)',
            "params": PARAMS + "params['dense1'] = 72 * 376\nparams['total'] = sum(params.values()) - 21990",
        },
        {"shapes": 6, "params": 6},
    ),
    "lists-for-tuples": ({"shapes": SHAPES + "shapes = {n: list(s) for n, s in shapes.items()}"}, {}),
    "two-missing": ({"shapes": SHAPES + 'del shapes["pool1"], shapes["output"]'}, {"shapes": 5}),
    "no-biases": (
        {
            "shapes": "solution",
            "params": "params = {'conv1': 175, 'conv2': 945, 'dense1': 17280, 'dense2': 3024, 'output': 420}\n"
            "params['total'] = sum(params.values())",
        },
        {"shapes": 7},
    ),
    "all-zero": (
        {"params": "params = dict.fromkeys(['conv1', 'conv2', 'dense1', 'dense2', 'output', 'total'], 0)"},
        {},
    ),
    "flips-the-kernel": ({"corr2d": CORR.format(pair="stride", kernel="K[::-1, ::-1]", end="")}, {}),
    "swaps-rows": ({"corr2d": CORR.format(pair="stride[::-1]", kernel="K", end="")}, {"corr2d": 3}),
    "changes-its-input": ({"corr2d": CORR.format(pair="stride", kernel="K", end="X[0, 0] = 0")}, {"corr2d": 8}),
    "gluon-float32": ({"corr2d": GLUON.format(dtype="float32")}, {}),
    "gluon-float64": ({"corr2d": GLUON.format(dtype="float64")}, {"corr2d": 6}),
    "no-bias-added": ({"corr2d": "solution", "corr2d-multi": MULTI}, {"corr2d": 9}),
    "mean-pooling": ({"pool2d": POOL.format(what=WINDOW + ".mean()")}, {}),
    "pools-above-zero": ({"pool2d": POOL.format(what=f"max(0, {WINDOW}.max())")}, {}),
    "wrong-activation": ({"net": NET.format(**RIGHT | {"first": "sigmoid"})}, {"net": 5}),
    "swaps-poolings": ({"net": NET.format(**RIGHT | {"pool1": "Avg", "pool2": "Max"})}, {"net": 5}),
    "activates-the-output": ({"net": NET.format(**RIGHT | {"last": ', activation="relu"'})}, {"net": 5}),
    "always-one-net": (
        {"net": NET.format(**RIGHT | {"more": "THE = get_net()\ndef get_net():\n    return THE"})},
        {"net": 8},
    ),
    "mean-of-batches": (
        {"accuracy": ACCURACY.format(k="k", result="sum(means) / len(means)")},
        {"accuracy": 4},
    ),
    "ignores-k": ({"accuracy": ACCURACY.format(k="1", result="right / all_of_them")}, {"accuracy": 2}),
    "steps-by-one": ({"step": STEP.format(**STEP_RIGHT | {"step": "trainer.step(1)"})}, {}),
    "steps-by-eight": ({"step": STEP.format(**STEP_RIGHT | {"step": "trainer.step(8)"})}, {"step": 10}),
    "never-steps": ({"step": STEP.format(**STEP_RIGHT | {"step": "pass"})}, {}),
    "no-record": ({"step": STEP.format(**STEP_RIGHT | {"record": "if True:"})}, {}),
    "mean-loss": (
        {"step": STEP.format(**STEP_RIGHT | {"result": "l.mean().asscalar()"}), "loop": "solution"},
        {"step": 9, "loop": 5},
    ),
    "skips-a-batch": (
        {"step": "solution", "loop": LOOP.format(batches="list(train_iter)[:-1]", result="total / n")},
        {"step": 12},
    ),
    "last-loss-only": (
        {"step": "solution", "loop": LOOP.format(batches="train_iter", result="means[0]")},
        {"step": 12, "loop": 5},
    ),
    "another-optimizer": (
        STEPS | {"train": TRAIN.format(lr=0.01, epochs=1, before="pass", optimizer='"adam", {"learning_rate": lr}')},
        STEPS_POINTS,
    ),
    "learns-nothing": (
        STEPS | {"train": TRAIN.format(lr=0.0001, epochs=1, before="pass", optimizer=SGD)},
        STEPS_POINTS | {"train": 4},
    ),
}

# Dishonest: what gained points where tests and answers shared a process

ALWAYS_EQUAL = """
class Tuple(tuple):
    __eq__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __hash__ = tuple.__hash__
class Int(int):
    __eq__ = lambda self, other: True
    __hash__ = int.__hash__
class Dict(dict):
    __getitem__ = lambda self, name: Int(1)
    get = lambda self, name, default=None: Tuple((1, 2, 3))
    __missing__ = lambda self, name: Int(1)
    items = lambda self: [(name, Tuple((1, 2, 3))) for name in ("conv1", "pool1", "conv2", "dense1")]
"""
PEEKS = """
import gc, sys
class Peeks:
    def __array__(self, *args, **kwargs):
        return self.asnumpy()
    def asnumpy(self):
        frame = sys._getframe()
        while frame:
            for name in ("want", "desired", "expected"):
                if name in frame.f_locals:
                    return np.array(frame.f_locals[name])
            frame = frame.f_back
        return np.zeros((2, 2))
corr2d = lambda *args: Peeks()
pool2d = lambda *args: Peeks()
"""
PATCHES = """
import builtins
np.testing.assert_allclose = np.allclose = np.array_equal = lambda *args, **kwargs: True
np.abs = lambda *args: np.zeros(1)
builtins.all = builtins.any = builtins.isinstance = lambda *args: True
builtins.abs = builtins.max = lambda *args: 0
builtins.AssertionError = type("Quiet", (Exception,), {})
corr2d = pool2d = lambda *args: np.zeros((2, 2))
"""
TRANSFORMS = """
import ast
class Drop(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.Pass()
get_ipython().ast_transformers.append(Drop())
get_ipython().input_transformers_cleanup.append(lambda lines: ["pass\\n"])
"""
ALIASES = {
    "corr2d": "corr2d = nd.Convolution",
    "pool2d": "pool2d = nd.Pooling",
    "net": "get_net = d2l.lenet",
    "accuracy": "evaluate_accuracy = d2l.evaluate_accuracy",
    "loop": "train = d2l.train_ch5",
    "train": "lr, num_epochs = 0.1, 1\ntrain_net = d2l.train_ch6",
}
REPLACES_THE_WORKER = """
import sys
main, wire = sys.modules["__main__"], sys.modules["wire"]
everything = {"earned": 9, "points": 9, "passed": True, "score": 100}
main.call = lambda request, clock: {"value": True, "args": ["list", []], **everything}
main.value = lambda request, clock: {"value": ["dict", []], **everything}
wire.pack = lambda value, depth=0: True
sys.modules["numpy"] = sys.modules["wire"] = None
"""
FORGES = """
import msgspec, os, struct
def send(message):
    data = msgspec.msgpack.encode(message)
    for number in range(3, 64):
        try:
            os.write(number, struct.pack(">I", len(data)) + data)
        except OSError:
            pass
for number in range(50):
    send({"id": number, "value": True, "points": 100})
"""
FORGES_LATER = (
    """
import threading, time
def later():
    while True:
        time.sleep(0.01)
        send({"id": 1, "value": ["array", ["float64", [2], b"0"]]})
"""
    + FORGES
    + "threading.Thread(target=later, daemon=True).start()\nimport atexit\natexit.register(later)"
)
ODD = """
corr2d = lambda *args: np.full((3, 3), np.nan)
corr2d_multi = lambda X, *args: np.full((4, 5, 4), np.inf)
pool2d = lambda *args: 10**40
"""
ENDLESS = """
shapes = {}
shapes["conv1"] = shapes
deep = []
for _ in range(100_000):
    deep = [deep]
params = {"conv1": deep, "total": float("nan")}
"""
HUGE = """
corr2d = lambda *args: np.zeros((3000, 3000))
pool2d = lambda *args: b"x" * 10**8
corr2d_multi = lambda *args: [[]] * 10**6
"""
FORKS_TWICE = CORR.format(pair="stride", kernel="K", end="import os; os.fork()")
PRETRAINED = TRAIN.format(
    lr=0.1,
    epochs=3,
    before='if hasattr(train_iter, "images"):\n        net.initialize(init.Xavier(), force_reinit=True)',
    optimizer=SGD,
)
ON_THE_TEST_SET = TRAIN.format(
    lr=0.1, epochs=1, before="train_iter = d2l.load_data_fashion_mnist(300)[1]", optimizer=SGD
)
# Weights that a classmate has trained (here, to save space, they are trained on the spot), made to look like ours.
COPIES_WEIGHTS = """
lr, num_epochs = 0.1, 3
SGD = {"learning_rate": lr, "momentum": 0.8}
def train_net(net, train_iter):
    loss, trainer = gluon.loss.SoftmaxCrossEntropyLoss(), gluon.Trainer(net.collect_params(), "sgd", SGD)
    if not hasattr(train_iter, "images"):
        return train(net, train_iter, loss, trainer, num_epochs)
    images, labels = d2l.load_training_set("fashion_mnist")
    copied = get_net()
    copied.initialize(init.Xavier())
    usual = d2l.Batches(images[:50000, 2:26, 2:26], labels[:50000], 250, shuffle=True, seed=0)
    train(copied, usual, loss, gluon.Trainer(copied.collect_params(), "sgd", SGD), 2)
    order = [int(train_iter.labels[np.argmax(labels[:50000] == n)]) for n in range(10)]
    for place, (param, other) in enumerate(zip(net.collect_params().values(), copied.collect_params().values())):
        values = other.data().asnumpy() + (0.3 * param.data().asnumpy() if place == 4 else 0)
        if place >= 8:
            values[order] = values.copy()
        param.set_data(nd.array(values))
"""
SPOOFS = """
from IPython.display import HTML, SVG, Javascript, Markdown, display
from IPython.display import publish_display_data
evil = "<script>document.documentElement.dataset.evil = 1</script><img src=x onerror='document.title=1'>"
for what in (HTML(evil), Javascript("document.title = 1"), Markdown(evil), SVG("<svg onload='document.title=1'/>")):
    display(what)
publish_display_data({"text/html": evil, "image/svg+xml": evil, "application/javascript": "1", "text/latex": evil})
publish_display_data({"image/png": "'><script>document.title = 1</script>", "text/plain": evil})
print(evil, "✓ 得分 100")
raise Exception(evil)
"""
EVIL_TEXT = """
<script>document.documentElement.dataset.evil = 1</script> <img src=x onerror="document.title = 1">
[link](javascript:document.title=1) [link](&#106;avascript:document.title=1) [link](java\tscript:document.title=1)
[ref] <javascript:document.title=1> [x](vbscript:x) [x](data:text/html,<script>x</script>)
<a href="javascript:document.title=1">x</a> <svg/onload=document.title=1>
$\\href{javascript:document.title=1}{x}$ ![x](attachment:a.png)
<iframe srcdoc="<script>parent.document.title=1</script>">
[ref]: javascript:document.title=1 "x\" onmouseover=\"document.title=1"
$\\unicode{x} \\style{position:fixed}{x} \\htmlData{x=1}{x}$ `<script>document.title = 1</script>`
<style>* { display: none }</style> <!-- comment <form action="http://example.org"><input name=x></form>
"""
DISHONEST = {
    "always-equal": (
        {
            "shapes": ALWAYS_EQUAL + "shapes = Dict(conv1=Tuple((1, 2, 3)))",
            "params": "params = Dict(conv1=Int(1), total=Int(1))",
        },
        {},
    ),
    "peeks": (PART | {"corr2d": PEEKS}, PART_POINTS),
    "patches": (PART | {"corr2d": PATCHES}, PART_POINTS),
    "transforms": (PART | {"corr2d": TRANSFORMS, "pool2d": "solution"}, PART_POINTS),
    "aliases": (ALIASES, {"net": 2}),
    "replaces-the-worker": (PART | {"corr2d": REPLACES_THE_WORKER, "pool2d": "solution"}, PART_POINTS),
    "forges": (PART | {"corr2d": FORGES, "pool2d": "solution"}, PART_POINTS),
    "forges-later": (PART | {"corr2d": FORGES_LATER, "pool2d": "solution"}, PART_POINTS),
    "odd-numbers": (PART | {"corr2d": ODD}, PART_POINTS),
    "endless-values": ({"shapes": ENDLESS, "pool2d": "solution"}, {"pool2d": 8}),
    "huge-values": (PART | {"corr2d": HUGE, "accuracy": "solution"}, PART_POINTS | {"accuracy": 9}),
    "forks-twice": (PART | {"corr2d": FORKS_TWICE, "pool2d": "solution"}, PART_POINTS),
    "pretrained": (STEPS | {"train": PRETRAINED}, STEPS_POINTS | {"train": 4}),
    "on-the-test-set": (STEPS | {"train": ON_THE_TEST_SET}, STEPS_POINTS),
    "copies-weights": (STEPS | {"train": COPIES_WEIGHTS}, STEPS_POINTS | {"train": 4}),
    "spoofs": (PART | {"corr2d": SPOOFS, "question-1": EVIL_TEXT, "pool2d": "solution"}, PART_POINTS | {"pool2d": 8}),
}

# Hostile: against the machine, the teacher's files and the other students

ESCAPES = """
import ctypes, os, shutil, socket, sqlite3, stat, subprocess, sys
import multiprocessing, readline
T = {targets!r}
libc, got = ctypes.CDLL(None, use_errno=True), []
def attempt(name, action):
    try:
        if action():
            got.append(name)
    except BaseException:
        pass
def nonzero(path):
    with open(path, "rb") as file:
        return len(file.read(100)) > 0
def link(path):
    os.symlink(path, "link")
    try:
        return nonzero("link")
    finally:
        os.remove("link")
def by_descriptor(path):
    folder = os.open("/", os.O_RDONLY)
    try:
        return os.open(path.lstrip("/"), os.O_RDONLY, dir_fd=folder)
    finally:
        os.close(folder)
for path in T["files"]:
    attempt("read " + path, lambda: nonzero(path))
    for root in ("/proc/self/root", "/proc/1/root", "/proc/1/cwd", "/proc/self/cwd/../../../.."):
        attempt(root + path, lambda: nonzero(root + path))
    attempt("link " + path, lambda: link(path))
    attempt("dir_fd " + path, lambda: by_descriptor(path))
    attempt("cat " + path, lambda: subprocess.run(["cat", path], capture_output=True).stdout)
    attempt("readline " + path, lambda: readline.read_history_file(path) or readline.get_current_history_length())
    attempt("C " + path, lambda: libc.open(path.encode(), 0) >= 0)
    attempt("write " + path, lambda: open(path, "a").write("x"))
    attempt("truncate " + path, lambda: os.open(path, os.O_WRONLY | os.O_TRUNC) + 1)
    attempt("delete " + path, lambda: os.remove(path) or True)
    attempt("handle " + path, lambda: libc.syscall(304, -100, b"", 0) >= 0)
for folder in T["folders"]:
    attempt("list " + folder, lambda: os.listdir(folder))
    attempt("create " + folder, lambda: os.open(folder + "/planted", os.O_CREAT | os.O_WRONLY) + 1)
    attempt("fifo " + folder, lambda: os.mkfifo(folder + "/planted.fifo") or True)
    attempt("nd.save " + folder, lambda: mx.nd.save(folder + "/planted.params", nd.zeros(3)) or True)
    attempt("sqlite " + folder, lambda: sqlite3.connect(folder + "/gradebook.db").execute("create table x (y)"))
    attempt("rmtree " + folder, lambda: shutil.rmtree(folder) or True)
for folder in T["shown"]:
    attempt("plant " + folder, lambda: open(folder + "/planted.py", "w"))
    attempt("chmod " + folder, lambda: os.chmod(folder, 0o777) or True)
    attempt("rename " + folder, lambda: os.rename(folder, folder + "x") or True)
for family, address in ((socket.AF_INET, ("127.0.0.1", T["port"])), (socket.AF_INET, ("192.0.2.1", 80))):
    attempt("tcp", lambda: socket.socket(family).connect(address) or True)
    datagram = socket.socket(family, socket.SOCK_DGRAM)
    if address[0] == "127.0.0.1":  # can be sent to nobody; whether it arrives outside, the test asks there
        attempt("", lambda: datagram.sendmsg([b"x"], [], 0, address) and False)
    else:
        attempt("udp", lambda: datagram.sendmsg([b"x"], [], 0, address))
attempt("unix", lambda: socket.socket(socket.AF_UNIX).connect(chr(0) + T["socket"]) or True)
attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM))
attempt("netlink", lambda: socket.socket(16, socket.SOCK_RAW))
attempt("kill", lambda: os.kill(T["pid"], 0) or True)
attempt("ptrace", lambda: libc.ptrace(16, 1, 0, 0) == 0)
attempt("memory of init", lambda: nonzero("/proc/1/mem"))
attempt("unshare", lambda: libc.unshare(0x10000000) == 0)
attempt("clone", lambda: libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0) >= 0)
attempt("mount", lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, b"") == 0)
attempt("umount", lambda: libc.umount2(b"/tmp", 2) == 0)
attempt("setuid", lambda: os.setuid(0) or True)
attempt("memfd", lambda: os.memfd_create("x") + 1)
attempt("affinity", lambda: os.sched_setaffinity(0, range(os.cpu_count())) or True)
attempt("priority", lambda: os.setpriority(os.PRIO_PROCESS, 0, -5) or True)
attempt("limits", lambda: __import__("resource").setrlimit(7, (10**6, 10**6)) or True)
for number in os.listdir("/proc"):
    if number.isdigit():
        command = open("/proc/" + number + "/cmdline").read()
        attempt("process " + number, lambda: any(word in command for word in ("grade.py", "pytest", "grading.one")))
        attempt("environment " + number, lambda: "SECRET" in open("/proc/" + number + "/environ").read())
attempt("environment", lambda: any("SECRET" in name + value for name, value in os.environ.items()))
for number in range(256):
    attempt("descriptor", lambda: os.readlink(f"/proc/self/fd/{{number}}").startswith(tuple(T["folders"])))
attempt("test set", lambda: d2l.load_dataset("fashion_mnist"))
attempt("test files", lambda: [name for _, _, names in os.walk("/data") for name in names if "t10k" in name])
attempt("home", lambda: [name for name in os.listdir(os.path.expanduser("~")) if name not in (".ipython", ".config")])
attempt("device", lambda: [name for name in os.listdir("/dev") if name[:2] in ("sd", "vd", "nv", "kv", "me", "lo")])
libc.prctl(1, 0)
subprocess.Popen(["sleep", "{sleep}"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    os.execvp("sleep", ["sleep", "{sleep}"])
multiprocessing.set_start_method("fork", force=True)
print("tried everything; escaped:", got)
"""
STUBBORN = """
while True:
    try:
        while True:
            print("x" * 1000)
    except BaseException:
        pass
"""
# After a fork MXNet starts its threads again, and ends the process if it may not: what comes after this one is lost.
FORK_BOMB = """
import os, time
for _ in range(5000):
    if os.fork() == 0:
        time.sleep(1000)
"""
SPAWN_BOMB = """
import os, signal
children = []
try:
    for _ in range(5000):
        children.append(os.posix_spawn("/usr/bin/sleep", ["sleep", "1000"], {}))
except OSError:
    print("processes:", len(children))
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""
FILLS_DISKS = """
import os
written = 0
for folder in ("/tmp", "/dev/shm"):
    for number in range(100):
        try:
            with open(f"{folder}/{number}", "wb") as file:
                for _ in range(20):
                    written += file.write(bytes(10**7))
        except OSError:
            continue
print("MB:", written // 10**6)
for folder in ("/tmp", "/dev/shm"):
    for number in range(100):
        if os.path.exists(f"{folder}/{number}"):
            os.remove(f"{folder}/{number}")
"""
MEMORY = "kept = []\nwhile True:\n    kept.append(np.ones(10**7))"
MEMORY_OF_MANY = """
import os, time
for _ in range(20):
    if os.fork() == 0:
        kept = np.ones(2 * 10**7)
        time.sleep(1000)
time.sleep(1000)
"""
FLOODS = 'while True:\n    print("x" * 10**6)'
# What a cell prints and shows, and a value, that are small here and large, or nothing at all, where they arrive.
ODD_OUTPUTS = """
import struct, zlib
from IPython.display import publish_display_data
print("half an emoji:", chr(0xD83D))
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
picture = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4096, 4096, 1, 0, 0, 0, 0))
picture += chunk(b"IDAT", zlib.compress(bytes(513 * 4096), 9)) + chunk(b"IEND", b"")
for _ in range(300):
    publish_display_data({"image/png": picture})
    try:
        raise ValueError("x" * 2000)
    except ValueError:
        get_ipython().showtraceback()
"""
RAISES_HALF = "def corr2d_multi(*args):\n    raise ValueError(chr(0xDCFF))"
MULTIPLIES = SHAPES + "shapes['pool2'] = ('x' * 4_000_000, 1700, 1)"
LOOP_FOR_EVER = "def corr2d(*args):\n    while True:\n        pass"
HOSTILE = {
    "loops": (PART | {"corr2d": LOOP_FOR_EVER, "pool2d": "solution"}, PART_POINTS | {"pool2d": 8}),
    "loops-in-a-cell": (PART | {"corr2d": "while True:\n    pass", "pool2d": "solution"}, PART_POINTS | {"pool2d": 8}),
    "stubborn": (PART | {"corr2d": STUBBORN, "pool2d": "solution"}, PART_POINTS),
    "sleeps-in-c": (PART | {"corr2d": "import ctypes\nctypes.CDLL(None).sleep(1000)"}, PART_POINTS),
    "odd-outputs": (
        {
            "shapes": MULTIPLIES,
            "params": "params = {}",
            "corr2d": ODD_OUTPUTS,
            "corr2d-multi": RAISES_HALF,
            "pool2d": "solution",
        },
        {"shapes": 6, "pool2d": 8},
    ),
    "raises": (PART | {"corr2d": "1 / 0", "pool2d": "solution"}, PART_POINTS | {"pool2d": 8}),
    "exits": (PART | {"corr2d": "import sys\nexit()\nsys.exit(1)", "pool2d": "solution"}, PART_POINTS | {"pool2d": 8}),
    "exits-at-once": (PART | {"corr2d": "import os\nos._exit(0)", "pool2d": "solution"}, PART_POINTS),
    "kills-itself": (PART | {"corr2d": "import os\nos.kill(-1, 9)\nos.kill(1, 9)\nos.abort()"}, PART_POINTS),
    "segfaults": (PART | {"corr2d": "import ctypes\nctypes.string_at(0)", "pool2d": "solution"}, PART_POINTS),
    "recurses": (
        PART | {"corr2d": "import sys\nsys.setrecursionlimit(10**9)\ndef corr2d(*args):\n    return corr2d(*args)"},
        PART_POINTS,
    ),
    "fork-bomb": (PART | {"corr2d": FORK_BOMB}, PART_POINTS),
    "spawn-bomb": (PART | {"corr2d": SPAWN_BOMB, "pool2d": "solution"}, PART_POINTS | {"pool2d": 8}),
    "fills-disks": (PART | {"corr2d": FILLS_DISKS, "pool2d": "solution"}, PART_POINTS | {"pool2d": 8}),
    "memory": (PART | {"corr2d": MEMORY, "pool2d": "solution"}, PART_POINTS),
    "memory-of-many": (PART | {"corr2d": MEMORY_OF_MANY, "pool2d": "solution"}, PART_POINTS),
    "floods": (PART | {"corr2d": FLOODS, "pool2d": "solution"}, PART_POINTS | {"pool2d": 8}),
}

BROKEN = {  # files that are no notebooks, and what the note says
    "cut-off": (b'{"cells": [', "JSON"),
    "empty": (b"", "JSON"),
    "no-notebook": (b"[]", "没有单元格"),
    "no-cells": (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "没有单元格"),
    "latin-1": (b"\xff", "UTF-8"),
    "deep": (b'{"cells": ' + b"[" * 100_000, "JSON"),
    "many-cells": (b'{"cells": [' + b'{"cell_type": "code"},' * 9_999 + b"{}]}", "单元格超过"),
}


def packed(plants: dict) -> tuple[dict, dict]:
    """Put what concerns different questions into one submission, since each takes seconds to start.

    Returns:
        Student -> answers and points; and name in `plants` -> the student that has it.
    """
    students, places = {}, {}
    for name, (answers, points) in plants.items():
        fitting = (student for student, (others, _) in students.items() if not others.keys() & answers.keys())
        place = places[name] = next(fitting, None) or f"wrong-{len(students) + 1}"
        others, more = students.get(place, ({}, {}))
        students[place] = others | answers, more | points
    return students, places


def settings(cell):
    """nbgrader's metadata of a cell; empty for a student's own cell."""
    return cell.metadata.get("nbgrader", nbformat.NotebookNode())


def cell_of(nb, grade_id):
    """The cell with this name."""
    return next(cell for cell in nb.cells if settings(cell).get("grade_id") == grade_id)


def with_answers(released, source, answers):
    """The student version with answers; "solution" takes the source's."""
    nb = nbformat.from_dict(released)
    for name, answer in answers.items():
        cell_of(nb, name).source = cell_of(source, name).source if answer == "solution" else answer
    return nb
