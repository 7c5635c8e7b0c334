"""A made-up class, graded undisturbed and again killed twice on the way: the same grades; what a submission takes.

    PYTHONPATH=.:tests:tests/helpers:benchmarks python tests/assignments/class_of.py 100 --record

Each student answers some questions rightly, some with a mistake of tests/helpers/planted.py, and some not at all; one
in ten answers all, and so trains the net, one in twenty hands in something that crashes.
"""

import argparse
import json
import os
import platform
import random
import resource
import tempfile
import time
from pathlib import Path

from conftest import ROOT
from graded_class import Class
from planted import HOSTILE, PART, RIGHT_AND_NONE, TESTS, WRONG
from reproduce import insert

RECORD = ROOT / "benchmarks" / "results" / "grading.md"
SENTENCES = {  # page in docs/ -> what is said there
    "teachers.md": "A made-up class of {students} took {minutes:.0f} minutes on two cores: {each:.1f} seconds a "
    "submission, {most:.0f} for the longest, which trains a net ([measured](../benchmarks/results/grading.md)).",
    "teachers.zh-CN.md": "虚构的一个班，{students} 份作业，在两个核上用了 {minutes:.0f} 分钟：平均每份 {each:.1f} 秒，"
    "最长的一份要训练网络，用了 {most:.0f} 秒（[测量记录](../benchmarks/results/grading.md)）。",
}
CRASHES = ("raises", "exits", "exits-at-once", "segfaults")


def student(rng: random.Random) -> tuple[dict, dict]:
    """Answers, and the points by test that they deserve."""
    if rng.random() < 0.05:
        return HOSTILE[rng.choice(CRASHES)]
    if rng.random() < 0.1:
        answers, points = RIGHT_AND_NONE["solution"]
        return answers | {"question-1": f"我的回答是 {rng.random()}。"}, points
    answers, points = {}, {}
    for mistake in rng.sample(sorted(WRONG), 6):
        others, deserved = WRONG[mistake]
        if not others.keys() & answers.keys() and "train" not in others:
            answers, points = answers | others, points | deserved
    right = [name for name in (*PART, "pool2d", "accuracy") if name not in answers and rng.random() < 0.8]
    answers |= dict.fromkeys(right, "solution") | {"question-1": f"我的回答是 {rng.random()}。"}
    return answers, points | {name: TESTS[name] for name in right}


def main() -> None:
    """Grade the class as the command line says, and record the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("students", type=int)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--record", action="store_true", help="write the result to benchmarks/results/ and docs/")
    args = parser.parse_args()
    rng, graded = random.Random(0), []
    students = {f"student-{number}": student(rng) for number in range(args.students)}
    kills = [rng.randint(1, args.students // 3) for _ in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        for name, moments in (("undisturbed", []), ("killed", kills)):
            it = Class(Path(folder, name), ["--jobs", str(args.jobs)])
            for who, (answers, _) in students.items():
                it.hand_in(who, answers)
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            counts = it.grade_killing(moments)
            seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            most = max(json.loads(path.read_bytes())["result"]["seconds"] for path in it.course.glob("runs/*.json"))
            graded.append((it.read(), counts, seconds, cpu, most))
            print(name, f"{counts} run in {seconds:.0f} s", flush=True)
    (rows, _, seconds, cpu, most), (again, counts, *_) = graded
    assert rows == again
    for who, (_, points) in students.items():
        found = {name: float(rows[who][f"{name}-test"]) for name in TESTS}
        assert found == dict.fromkeys(TESTS, 0.0) | points, (who, found, points)
    trained = sum("train" in answers for answers, _ in students.values())
    text = f"""# A class of {args.students}, graded

`python tests/assignments/class_of.py {args.students} --jobs {args.jobs}` on {time.strftime("%Y-%m-%d")}, Python \
{platform.python_version()}, {os.cpu_count()} cores.

Graded undisturbed, and again killed after {" and ".join(map(str, counts[:-1]))} more submissions: the same grades,
those that the submissions deserve.

| submissions | of them train a net | seconds each, {args.jobs} at a time | the longest | seconds of a processor each |
|---|---|---|---|---|
| {args.students} | {trained} | {seconds / args.students:.1f} | {most:.1f} | {cpu / args.students:.1f} |
"""
    print(text)
    if args.record:
        RECORD.write_text(text, encoding="utf-8")
        for page, sentence in SENTENCES.items():
            numbers = {"minutes": seconds / 60, "each": seconds / args.students, "most": most}
            insert(ROOT / "docs" / page, "grading", sentence.format(students=args.students, **numbers))


if __name__ == "__main__":
    main()
