"""The notebooks: checks without running them, and that execute.py, which runs them, fails where it must.

`make notebooks` runs them all; `.ci/run` does so too.
"""

import re
import subprocess
import venv

import nbformat
import pytest
from fontTools.ttLib import TTFont

import execute
from conftest import ROOT
from gluon_lenet.viz import fonts

FOLDER = ROOT / "notebooks"
NAMES = execute.names()
TERMS = {  # a notebook gives the English term where it first mentions one
    "卷积层": "convolutional layer",
    "池化层": "pooling layer",
    "全连接层": "fully connected layer",
    "卷积核": "kernel",
    "迭代周期": "epoch",
    "小批量": "mini-batch",
    "准确率": "accuracy",
    "混淆矩阵": "confusion matrix",
    "特征图": "feature map",
    "激活函数": "activation function",
    "学习率": "learning rate",
    "偏差": "bias",
    "验证集": "validation set",
    "数据增广": "data augmentation",
}
GIVEN = {  # numbers that no cell computes: sizes of data sets, arithmetic that stands beside them, others' results
    "c1_f6": {"60000", "0.001"},
    "course": {"44426", "256", "400", "2.3", "2.776", "2.093", "0.38"},
    "exercises": {"55000", "60000"},
    "inside": {"0.01"},
    "lenet": {"784", "2.303", "48120", "17280", "61706", "2278", "2298", "2324"},
    "lenet1998": {"2.4", "0.80"},
    "questions": {"1.7159", "0.32", "99%", "0.6", "1.5"},
    "relu": {"938"},
    "tanh": {"98.80%", "160"},
}
CHINESE = re.compile("[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")


@pytest.fixture(scope="module", params=NAMES)
def notebook(request):
    notebook = nbformat.read(FOLDER / f"{request.param}.ipynb", as_version=4)
    notebook.name = request.param
    return notebook


def sources(notebook, kind: str) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def outputs(notebook) -> list:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_there_are_nine_with_bounds():
    assert NAMES == ["c1_f6", "course", "exercises", "inside", "lenet", "lenet1998", "questions", "relu", "tanh"]
    assert sorted(execute.BOUNDS) == NAMES


def test_it_is_executed_from_the_top_and_its_outputs_are_kept(notebook):
    valid = {key: value for key, value in notebook.items() if key != "name"}
    nbformat.validate(nbformat.from_dict(valid))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert code[0].source == "%run install.py"
    assert notebook.metadata.kernelspec.name == "python3"
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    for cell in code:
        execute.check(cell, notebook.name)
    assert len([output for output in outputs(notebook) if "image/png" in output.get("data", {})]) >= 2


def test_its_picture_is_in_both_readmes(notebook):
    path = FOLDER / f"{notebook.name}.ipynb"
    assert len(execute.pictures(notebook, path)) == 1
    assert execute.pictures_are_there(notebook, path)
    for readme in ("README.md", "README.zh-CN.md"):
        text = (ROOT / readme).read_text(encoding="utf-8")
        assert f"(notebooks/{notebook.name}.ipynb)" in text
        assert f"(notebooks/pictures/{notebook.name}.png)" in text


def test_its_words(notebook):
    text = "\n".join(sources(notebook, "markdown"))
    assert text.startswith("# ")
    assert len(CHINESE.findall(text)) > 500
    assert "汇聚" not in text
    prose = re.sub(r"`[^`]*`|\$[^$]*\$", "", text)
    assert re.findall("[\u4e00-\u9fff] ?[,;:?!]", prose) == [], "Chinese sentences have Chinese punctuation"
    for term, english in TERMS.items():
        if term in text:
            begin = text.index(term)
            mention = text[begin : begin + len(term) + len(english) + 2].lower()
            assert mention.startswith(f"{term}（{english}"), f"first mention of {term} without （{english}）"


def test_its_numbers_stand_in_the_cells(notebook):
    """Those with a point or a percent sign, and those from 100 on; a percentage may be rounded to a whole number."""

    def numbers(text):
        return re.findall(r"\d+(?:\.\d+)?%?", re.sub(r"(?<=\d)\{?,\}?(?=\d{3})", "", text))

    cells = "\n".join(sources(notebook, "code"))
    printed = "\n".join(execute._text(output) for output in outputs(notebook))
    computed = {float(number.rstrip("%")) for number in numbers(f"{cells}\n{printed}")}
    text = re.sub(r"`[^`]*`|\]\([^)]*\)|(?:19|20)\d\d ?年", "", "\n".join(sources(notebook, "markdown")))
    lost = set()
    for number in set(numbers(text)) - GIVEN.get(notebook.name, set()):
        value = float(number.rstrip("%"))
        if "%" in number:
            found = any(abs(100 * one - value) < 1 or one == value for one in computed)
        else:
            found = value in computed or ("." not in number and (value < 100 or 1980 <= value <= 2030))
        if not found:
            lost.add(number)
    assert lost == set()


def test_its_links_lead_somewhere(notebook):
    for target in re.findall(r"\]\(([^)#]+)\)", "\n".join(sources(notebook, "markdown"))):
        assert target.startswith("https://zh-v1.d2l.ai/") or (FOLDER / target).exists(), target


def test_the_shipped_font_draws_its_labels(notebook):
    has = set(TTFont(fonts.FILE).getBestCmap())
    written = set(CHINESE.findall("\n".join(sources(notebook, "code"))))
    assert {character for character in written if ord(character) not in has} == set()


def test_no_cell_repeats_the_package(notebook):
    def lines(text):
        code = [" ".join(line.split("#")[0].split()) for line in text.splitlines()]
        return [line for line in code if line and not line.startswith(("from ", "import "))]

    package = set()
    for path in (ROOT / "gluon_lenet").rglob("*.py"):
        if path.name == "zoo.py":  # the nets: the chapter's notebook writes its own out
            continue
        code = lines(path.read_text(encoding="utf-8"))
        package |= set(zip(code, code[1:], code[2:], strict=False))
    for source in sources(notebook, "code"):
        cell = lines(source)
        assert not package & set(zip(cell, cell[1:], cell[2:], strict=False))


def run_cells(*cells: str, bounds=None):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    return execute.execute(notebook, "example", bounds or {}, FOLDER)


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import warnings; warnings.warn('old', DeprecationWarning)", "DeprecationWarning: old"),
        ("from gluon_lenet.viz import figures\nfigures.bars({'𠀀': 1.0}, '')", "missing from font"),
        ("accuracy = 0.5", "accuracy is 0.5, not in 0.7 to 0.8"),
    ],
)
def test_a_notebook_fails(cell, complaint):
    with pytest.raises(execute.NotebookError, match=re.escape(complaint)):
        run_cells("%run install.py\naccuracy = 0.75", cell, bounds={"accuracy": (0.7, 0.8)})


@pytest.mark.parametrize(
    ("kind", "content", "complaint"),
    [
        ("stream", {"name": "stdout", "text": "Traceback (most recent call last):\n"}, "Traceback"),
        ("stream", {"name": "stderr", "text": "anything"}, "anything"),
        ("error", {"ename": "NameError", "evalue": "no such name", "traceback": []}, "NameError: no such name"),
        ("execute_result", {"data": {"text/plain": "<object object at 0x7f0e1c2b3d40>"}}, "0x7f0e1c2b3d40"),
        ("display_data", {"data": {"text/html": "<i>/home/someone/data</i>"}}, "/home/someone"),
    ],
)
def test_outputs_that_must_not_be_kept(kind, content, complaint):
    cell = nbformat.v4.new_code_cell("0", outputs=[nbformat.v4.new_output(kind, **content)])
    with pytest.raises(execute.NotebookError, match=complaint):
        execute.check(cell, "example")


def test_a_file_is_written_only_if_more_than_timings_changed(tmp_path):
    path = tmp_path / "example.ipynb"
    cell = nbformat.v4.new_code_cell("import time; print('test acc 0.751, time %.1f sec' % (time.time() % 1000))")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    assert execute.update(path, {}) == "written"
    kept = path.read_bytes()
    assert b"test acc 0.751" in kept
    assert execute.update(path, {}) == "unchanged but for timings"
    assert path.read_bytes() == kept
    assert execute.update(path, {}, timings=True) == "written"
    path.write_bytes(re.sub(rb"0\.751(, time \d)", rb"0.752\1", kept))  # in the output, not in the cell
    assert execute.update(path, {}, write=False) == "changed"


@pytest.mark.network
def test_the_first_cell_installs_what_a_fresh_jupyter_lacks(tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "ipykernel", "nbclient"], check=True, timeout=300)
    code = (
        "import nbformat; from nbclient import NotebookClient; new = nbformat.v4.new_code_cell\n"
        "cells = [new('%run install.py'), new('import gluon_lenet; gluon_lenet.try_gpu().device_type')]\n"
        "book = nbformat.v4.new_notebook(cells=cells)\n"
        f"NotebookClient(book, timeout=600, resources={{'metadata': {{'path': {str(FOLDER)!r}}}}}).execute()\n"
        "print(book.cells[1].outputs[-1].data['text/plain'])"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=900)
    assert done.stdout in ("'cpu'\n", "'gpu'\n"), done.stderr
