"""Copies are found, also renamed and reformatted; what two students wrote by themselves, and what all wrote, is not."""

from grading.likeness import LIKE, likeness, nearly_same, pieces, share

ONE = """
def corr2d(X, K, stride):
    kh, kw = K.shape
    a, b = stride
    Y = np.zeros(((X.shape[0] - kh) // a + 1, (X.shape[1] - kw) // b + 1), dtype=np.result_type(X, K))
    for i in range(Y.shape[0]):
        for j in range(Y.shape[1]):
            Y[i, j] = (X[i * a : i * a + kh, j * b : j * b + kw] * K).sum()
    return Y
"""
RENAMED = (
    ONE.replace("Y", "result").replace("kh", "rows").replace("kw", "columns").replace("X", "image").replace(" + ", "+")
    + "# my own work\n"
)
ANOTHER = """
def corr2d(X, K, stride):
    # each output is a sum over the window
    height = (len(X) - len(K)) // stride[0] + 1
    width = (len(X[0]) - len(K[0])) // stride[1] + 1
    out = [[0] * width for _ in range(height)]
    for r in range(height):
        for c in range(width):
            for dr in range(len(K)):
                for dc in range(len(K[0])):
                    out[r][c] += X[r * stride[0] + dr][c * stride[1] + dc] * K[dr][dc]
    return np.array(out)
"""


def test_a_renamed_copy_is_found():
    one, renamed, another = (pieces([("code", source)]) for source in (ONE, RENAMED, ANOTHER))
    assert likeness(one, renamed) >= LIKE
    assert likeness(one, another) < 0.3
    assert nearly_same({"a": one, "b": another, "c": renamed}) == [("a", "c", likeness(one, renamed))]


def test_what_was_copied_out_of_more_is_found():
    own, other, whole = (pieces([("code", source)]) for source in (RENAMED, ANOTHER, ONE + ANOTHER))
    assert share(own, whole) >= LIKE > likeness(own, whole)
    assert share(own, other) < 0.3
    assert share(pieces([("code", "x = 1")]), whole) == 0


def test_text_is_compared_too():
    text = "sigmoid 的导数最大只有四分之一，反向传播每经过一层就要乘一次，所以靠近输入的层几乎得不到更新。"
    text += "开始时各张图像到最后一层几乎一样，网络只能学到十类一样多，准确率停在百分之十。"
    text += "后来前面的层积累了差别，才升上去。"
    one, other = (pieces([("markdown", source)]) for source in (text, text.replace("，", ", ").replace("。", ".\n")))
    assert likeness(one, other) == 1


def test_what_everybody_has_does_not_count():
    assert likeness(pieces([("code", ONE)], pieces([("code", ONE)])), pieces([("code", ONE)])) == 0
    assert nearly_same({str(number): pieces([("code", ONE)]) for number in range(30)}) == []


def test_any_text_can_be_compared():
    for source in ("def f(:\n  '''", "(" * 5000, "\x00\n\tx\n y", "print('中文"):
        pieces([("code", source)])


def test_no_text_takes_longer_than_its_length():
    assert len(pieces([("code", "'" + "\\'" * 100_000)])) <= 1  # took Python 3.11's own tokenizer an hour
