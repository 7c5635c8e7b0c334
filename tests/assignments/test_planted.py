"""`make grade` on right, wrong, dishonest and hostile submissions: killed twice, each gets what it deserves."""

import html.parser
import json
import os
import re
import shutil
import socket
import sys
from pathlib import Path

import nbformat
import psutil
import pytest

import planted
from conftest import ROOT
from graded_class import ASSIGNMENTS, Class
from planted import BROKEN, BY_HAND, DISHONEST, HOSTILE, PART, PART_POINTS, TESTS, WRONG, cell_of, with_answers

pytestmark = pytest.mark.assignments

PACKED, PLACES = planted.packed(WRONG)
ALONE = planted.RIGHT_AND_NONE | DISHONEST | HOSTILE
NAPS = "86399.25"  # seconds that the processes of `escapes` would sleep
LIMITS = ["--cell-seconds", "15", "--seconds", "900", "--memory", "1", "--jobs", "2"]


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """All planted submissions, graded once."""
    it = Class(tmp_path_factory.mktemp("class"), LIMITS)
    for student, (answers, _) in (ALONE | PACKED).items():
        it.hand_in(student, answers)
    paths = [it.course / "source" / "lenet" / "lenet.ipynb", it.course / "gradebook.db", it.course / "course.json"]
    paths += [
        it.home / ".ssh" / "id_ed25519",
        it.submissions / "solution" / "lenet.ipynb",
        "/etc/shadow",
        "/etc/passwd",
    ]
    inner = [
        ROOT / "gluon_lenet",
        ASSIGNMENTS / "grading" / "inside",
        Path(sys.prefix) / "bin",
        "/usr/bin",
        "/data",
        "/",
    ]
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        datagrams.bind(server.getsockname())
        name = f"lenet-{os.getpid()}"
        unix.bind(f"\0{name}")
        unix.listen()
        targets = {
            "files": list(map(str, paths)),
            "folders": list(map(str, (it.course, it.home, it.submissions, it.other_course))),
            "shown": list(map(str, inner)),
            "port": server.getsockname()[1],
            "socket": name,
            "pid": os.getpid(),
        }
        code = planted.ESCAPES.format(targets=targets, sleep=NAPS)
        it.hand_in("escapes", PART | {"corr2d": code, "pool2d": "solution"})
        add_odd_files(it)
        before = it.untouched()
        it.counts = it.grade_killing([9, 12])
        for received in (server.accept, lambda: datagrams.recv(1)):
            server.settimeout(0)
            datagrams.settimeout(0)
            with pytest.raises(BlockingIOError):
                received()
    assert it.untouched() == before
    it.rows = it.read()
    return it


def add_odd_files(it: Class) -> None:
    """What is no notebook, or none of a student's own."""
    for student, (content, _) in BROKEN.items():
        (it.submissions / f"{student}.ipynb").write_bytes(content)
    (it.submissions / "nothing").mkdir()
    (it.submissions / "a-link.ipynb").symlink_to(it.course / "source" / "lenet" / "lenet.ipynb")
    (it.submissions / "a-folder-link").symlink_to(it.course / "source")
    (it.submissions / "a-link-inside").mkdir()
    (it.submissions / "a-link-inside" / "lenet.ipynb").symlink_to(it.course / "source" / "lenet" / "lenet.ipynb")
    (it.submissions / "zeros.ipynb").symlink_to("/dev/zero")
    os.mkfifo(it.submissions / "a-fifo.ipynb")
    with open(it.submissions / "huge.ipynb", "wb") as file:
        file.truncate(200 << 20)
    os.mkdir(os.path.join(os.fsencode(it.submissions), b"undecodable-\xff"))
    shutil.copy(
        it.submissions / "raises" / "lenet.ipynb", os.fsencode(it.submissions) + b"/undecodable-\xff/lenet.ipynb"
    )
    it.hand_in("=1+1", PART)
    it.hand_in("长" * 80, PART)  # a name of 240 bytes
    os.mkdir(it.submissions / "odd-file")
    Path(os.fsdecode(os.fsencode(it.submissions) + b"/odd-file/\xff.ipynb")).write_bytes(b"{")
    it.hand_in("@SUM(A1)", {"shapes": "solution"})

    tampered = it.hand_in("tampers", {"params": "solution"})
    nb = nbformat.read(tampered, as_version=4)
    answer = cell_of(nb, "shapes")
    answer.source = "shapes = {}"
    nb.cells.insert(5, nbformat.from_dict({**answer, "source": planted.SHAPES}))  # the last copy counts
    nb.cells.append(nbformat.from_dict({**answer, "source": planted.SHAPES}))
    cell_of(nb, "params-test").metadata.nbgrader.points = 1000
    cell_of(nb, "params-test").source = "100"
    cell_of(nb, "pool2d-test").metadata.nbgrader.update(grade=False, solution=True, locked=False)
    cell_of(nb, "corr2d-test").metadata["tags"] = ["skip-execution"]
    nb.cells = [cell for cell in nb.cells if planted.settings(cell).get("grade_id") != "net-test"]
    for cell in nb.cells:
        cell.id = "the-same"
    nb.metadata.kernelspec = {"name": "bash", "display_name": "", "language": "bash"}
    tampered.write_text(json.dumps(nb), encoding="utf-8")

    older = it.hand_in("twice", {}).rename(it.submissions / "twice" / "lenet (1).ipynb")
    os.utime(older, (1_000_000_000, 1_000_000_000))
    nbformat.write(with_answers(it.released, it.source, PART), it.submissions / "twice" / "lenet.ipynb")


@pytest.mark.parametrize("name", WRONG)
def test_each_mistake_costs_its_points(graded, name):
    student, (answers, deserved) = PLACES[name], WRONG[name]
    found = {question: float(graded.rows[student][f"{question}-test"]) for question in answers}
    assert found == dict.fromkeys(answers, 0.0) | deserved, [graded.printed(student, f"{q}-test") for q in answers]


@pytest.mark.parametrize("student", ALONE | PACKED)
def test_everybody_gets_what_he_deserves(graded, student):
    _, deserved = (ALONE | PACKED)[student]
    row = graded.rows[student]
    found = {name: float(row[f"{name}-test"]) for name in TESTS}
    assert found == dict.fromkeys(TESTS, 0.0) | deserved, [graded.printed(student, f"{name}-test") for name in TESTS]
    assert float(row["score"]) == sum(deserved.values())
    assert float(row["max_score"]) == 100


def test_it_was_killed_twice_and_went_on(graded):
    assert len(graded.counts) == 3
    assert min(graded.counts) >= 9
    assert sum(graded.counts) == len(graded.rows)
    assert f"{len(graded.rows)} submissions, {graded.counts[2]} of them run in" in graded.said
    assert re.search(r"^\d+/\d+ .+, about \d+ min left$", graded.said, re.MULTILINE)


def test_nobody_got_out(graded):
    printed = graded.printed("escapes", "corr2d")
    assert "tried everything; escaped: []\n" in printed, printed
    row = graded.rows["escapes"]
    assert float(row["score"]) == sum(PART_POINTS.values()) + 8  # and the machine was still good for what came after


def test_nothing_is_left_running(graded):
    assert not [process for process in psutil.process_iter(["cmdline"]) if NAPS in (process.info["cmdline"] or [])]


def test_limits_hold(graded):
    assert 20 < int(re.search(r"processes: (\d+)", graded.printed("spawn-bomb", "corr2d"))[1]) < 128
    assert 100 < int(re.search(r"MB: (\d+)", graded.printed("fills-disks", "corr2d"))[1]) < 600
    for student, reason in {
        "memory": "用了太多内存",
        "memory-of-many": "用了太多内存",
        "stubborn": "超时之后不再响应",
        "exits-at-once": "运行作业的进程中途退出了",
        "forges": "程序往不该写的地方写了数据",
        "loops": "1 次超时",
        "floods": "1 次超时",
    }.items():
        assert reason in graded.rows[student]["note"], student
    assert len(graded.printed("floods", "corr2d")) < 200_000
    shown = cell_of(graded.notebook("odd-outputs"), "corr2d").outputs
    assert "half an emoji: ?" in shown[0].text
    assert sum(output.output_type == "display_data" for output in shown) == 4  # of 16 million pixels each
    assert 0 < sum(output.output_type == "error" for output in shown) < 100


def test_what_cannot_be_read_costs_only_its_student(graded):
    notes = {student: note for student, (_, note) in BROKEN.items()}
    notes |= {"nothing": "没有 notebook", "a-link": "是链接", "a-folder-link": "是链接", "a-link-inside": "是链接"}
    notes |= {"zeros": "是链接", "a-fifo": "FIFO", "huge": "超过 16 MiB"}
    for student, note in notes.items():
        assert float(graded.rows[student]["score"]) == 0
        assert note in graded.rows[student]["note"], student


def test_odd_names(graded):
    assert float(graded.rows["undecodable-%5cxff"]["score"]) == 21
    assert float(next(row for name, row in graded.rows.items() if name.startswith("长长"))["score"]) == 13
    assert "%5cxff.ipynb：" in graded.rows["odd-file"]["note"]
    assert float(graded.rows["'=1%2b1"]["score"]) == 13
    assert float(graded.rows["'@SUM(A1)"]["score"]) == 7
    text = (graded.course / "grades.csv").read_text(encoding="utf-8-sig")
    assert not re.search(r"(^|,)\"?[=+\-@]", text, re.MULTILINE)


def test_tampering_gains_nothing_and_is_reported(graded):
    row = graded.rows["tampers"]
    assert float(row["score"]) == 13
    for name in ("params-test", "net-test"):
        assert name in row["note"]
    nb = graded.notebook("tampers")
    names = [planted.settings(cell).get("grade_id") for cell in nb.cells]
    assert [name for name in names if name] == [planted.settings(cell).grade_id for cell in graded.released.cells]
    assert cell_of(nb, "params-test").metadata.nbgrader.points == 6


def test_the_later_of_two_counts(graded):
    assert float(graded.rows["twice"]["score"]) == 13
    assert "交了多份" in graded.rows["twice"]["note"]


def test_likeness_is_reported(graded):
    assert "与参考答案几乎相同" in graded.rows["solution"]["note"]
    assert float(graded.rows["raises"]["score"]) == 21


def test_feedback_explains_and_keeps_the_hidden_tests(graded):
    student = PLACES["one-slip"]
    assert "✗ pool1（0/1 分）：应该是 (7, 10, 10)" in graded.printed(student, "shapes-test")
    assert "每一层的激活" in graded.printed(PLACES["wrong-activation"], "net-test")
    page = graded.course / "feedback" / student / "lenet" / "lenet.html"
    text = nbformat.writes(graded.notebook(student)) + page.read_text("utf-8")
    assert "HIDDEN" not in text
    assert "default_rng" not in text
    secret = json.loads((graded.course / "course.json").read_text())["secret"]
    assert str(secret) not in text


class Active(html.parser.HTMLParser):
    """Collects what runs when a page is opened."""

    def __init__(self, text: str):
        super().__init__()
        self.found, self.script = set(), False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Scripts, frames, forms, handlers of events and addresses that are scripts."""
        self.script = tag == "script"
        if tag in ("iframe", "object", "embed", "form", "base", "meta", "link", "svg", "style"):
            self.found.add((tag, str(attrs)))
        for name, value in attrs:
            if name.startswith("on") or name == "srcdoc" or "script:" in "".join((value or "").lower().split()):
                self.found.add((tag, name, value))

    def handle_data(self, data):
        """The text of scripts."""
        if self.script:
            self.found.add(data)


def test_feedback_runs_nothing_of_a_student(graded):
    pages = {
        name: (graded.course / "feedback" / name / "lenet" / "lenet.html").read_text("utf-8")
        for name in ("blank", "spoofs")
    }
    assert Active(pages["spoofs"]).found == Active(pages["blank"]).found
    assert "dataset.evil" in pages["spoofs"]  # it is there, as text
    report = (graded.course / "report.html").read_text("utf-8")
    assert {item for item in Active(report).found if item[0] not in ("meta", "style")} == {
        item for item in Active(report).found if isinstance(item, str)
    }


def test_report_and_gradebook(graded):
    report = (graded.course / "report.html").read_text("utf-8")
    for part in ("总分的分布", "各题的得分", "请看一看", "用了太多内存", "改动或删除了测试"):
        assert part in report
    row = graded.rows["solution"]
    assert row["to_grade_by_hand"] == "question-1"
    assert [row[name] for name in BY_HAND] == ["0.0", "", "0.0"]


def test_points_given_by_hand_stay_and_nothing_is_run_again(graded):
    from nbgrader.api import Gradebook

    path = graded.course / "feedback" / "solution" / "lenet" / "lenet.html"
    others = graded.course / "feedback" / "blank" / "lenet" / "lenet.html"
    before = others.stat().st_mtime_ns
    with Gradebook(f"sqlite:///{graded.course / 'gradebook.db'}") as gradebook:
        gradebook.find_grade("question-1", "lenet", "lenet", "solution").manual_score = 3
        gradebook.remove_submission("lenet", "raises")  # as in a gradebook that was restored
        gradebook.db.commit()

    said = graded.command("grade.py", str(graded.submissions), *LIMITS)

    assert f"{len(graded.rows)} submissions, 0 of them run" in said
    row = graded.read()["solution"]
    assert (float(row["question-1"]), float(row["score"])) == (3, 89)
    assert re.search(r"3(\.0)?\s*/\s*4(\.0)?", path.read_text("utf-8"))
    assert others.stat().st_mtime_ns == before
    assert {name: row for name, row in graded.read().items() if name != "solution"} == {
        name: row for name, row in graded.rows.items() if name != "solution"
    }
