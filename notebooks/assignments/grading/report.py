"""Points and notes of a class -> report.html for the teacher, grades.csv for a spreadsheet."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import jinja2

_PAGE = """<!doctype html>
<html lang="zh-CN">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>批改报告</title>
<style>
  body { font: 16px/1.6 "Noto Sans CJK SC", "Microsoft YaHei", "PingFang SC", sans-serif; color: #222;
         margin: 2em auto; max-width: 60em; padding: 0 1em; }
  table { border-collapse: collapse; width: 100%; margin: 1em 0 2em; }
  th { white-space: nowrap; }
  th, td { border-bottom: 1px solid #ddd; padding: .3em .6em; text-align: left; vertical-align: top; }
  td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
  .bar { display: flex; width: 16em; height: 1.1em; border-radius: 3px; overflow: hidden; background: #eee; }
  .plain { background: none; }
  .full { background: #2a7f62; } .part { background: #e0a030; } .none { background: #b5403a; }
  .box { display: inline-block; width: .9em; height: .9em; border-radius: 2px; }
</style>
<h1>批改报告</h1>
<p>{{ rows|length }} 份作业；自动批改部分平均 {{ "%.1f"|format(mean) }} 分（满分 {{ "%g"|format(most) }} 分）。
{% if waiting %}还有 {{ waiting }} 份作业的问答或实验等待老师批改。{% endif %}</p>
<h2>总分的分布</h2>
<table>
  <tr><th class="n">分数</th><th class="n">人数</th><th></th></tr>
  {% for name, count in totals %}
  <tr><td class="n">{{ name }}</td><td class="n">{{ count }}</td>
    <td><div class="bar plain"><span class="full" style="width: {{ 100 * count / most_count }}%"></span></div></td></tr>
  {% endfor %}
</table>
<h2>各题的得分</h2>
<p><span class="box full"></span> 满分　<span class="box part"></span> 部分得分　<span class="box none"></span> 零分</p>
<table>
  <tr><th>题目</th><th class="n">满分</th><th class="n">平均</th><th class="n">满分 / 部分 / 零分</th><th></th></tr>
  {% for q in questions %}
  <tr><td>{{ q.name }}</td><td class="n">{{ "%g"|format(q.most) }}</td>
    <td class="n">{{ "%.1f"|format(q.mean) if q.count else "–" }}</td>
    <td class="n">{{ q.full }} / {{ q.part }} / {{ q.none }}{% if q.waiting %}（{{ q.waiting }} 份待批）{% endif %}</td>
    <td><div class="bar">{% if q.count %}<span class="full" style="width: {{ 100 * q.full / q.count }}%"></span>
      <span class="part" style="width: {{ 100 * q.part / q.count }}%"></span>
      <span class="none" style="width: {{ 100 * q.none / q.count }}%"></span>{% endif %}</div></td></tr>
  {% endfor %}
</table>
<h2>请看一看（{{ looks|length }} 份）</h2>
{% if looks %}<table>
  <tr><th>学生</th><th class="n">得分</th><th>原因</th></tr>
  {% for row in looks %}
  <tr><td>{{ row.student }}</td><td class="n">{{ "%g"|format(row.score) }}</td><td>{{ row.notes|join("；") }}</td></tr>
  {% endfor %}
</table>{% else %}<p>没有发现异常。</p>{% endif %}
</html>
"""


@dataclass
class Row:
    """A student's line."""

    student: str
    points: dict[str, float | None]  # by question; None waits for the teacher; empty if it could not be graded
    notes: list[str]

    @property
    def score(self) -> float:
        """The points so far."""
        return sum(points or 0 for points in self.points.values())

    @property
    def waits(self) -> list[str]:
        """The questions that the teacher has yet to grade."""
        return [name for name, points in self.points.items() if points is None]


def as_csv(rows: list[Row], questions: dict[str, float]) -> bytes:
    """grades.csv, in UTF-8 with the mark by which Excel recognizes it."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["student", *questions, "score", "max_score", "to_grade_by_hand", "note"])
    for row in rows:
        points = [row.points.get(name) for name in questions]
        end = [row.score if row.points else None, sum(questions.values()), " ".join(row.waits), "；".join(row.notes)]
        writer.writerow([_inert(value) for value in (row.student, *points, *end)])
    return file.getvalue().encode("utf-8-sig")


def _inert(value: object) -> object:
    """Text that a spreadsheet does not take for a formula; numbers as they are, nothing for None."""
    if isinstance(value, str):
        value = "".join(letter if letter.isprintable() else " " for letter in value)
        return f"'{value}" if value.lstrip()[:1] in ("=", "+", "-", "@", "＝", "＋", "－", "＠") else value
    return value


def as_html(rows: list[Row], questions: dict[str, float], by_hand: set[str]) -> bytes:
    """report.html: how the points are distributed, and who needs a look.

    Args:
        rows: of all students.
        questions: with their points.
        by_hand: those that the teacher grades.
    """
    most = sum(questions.values())
    tested = [name for name in questions if name not in by_hand]
    auto = [sum(row.points.get(name) or 0 for name in tested) for row in rows]
    tens = [f"{low}–{low + 9 if low < 90 else 100}" for low in range(0, 100, 10)]
    counts = dict.fromkeys(tens, 0)
    for row in rows:
        counts[tens[min(9, int(10 * row.score / most))]] += 1
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(_PAGE)
    return page.render(
        rows=rows,
        mean=sum(auto) / len(auto),
        most=sum(questions[name] for name in tested),
        waiting=sum(bool(row.waits) for row in rows),
        totals=counts.items(),
        most_count=max(counts.values()),
        questions=[_of_question(name, points, rows) for name, points in questions.items()],
        looks=sorted((row for row in rows if row.notes), key=lambda row: row.score),
    ).encode()


def _of_question(name: str, most: float, rows: list[Row]) -> dict[str, object]:
    points = [row.points.get(name) for row in rows]
    given = [value for value in points if value is not None]
    full, none = sum(value >= most for value in given), sum(value <= 0 for value in given)
    return {
        "name": name.removesuffix("-test"),
        "most": most,
        "count": len(given),
        "waiting": len(points) - len(given),
        "mean": sum(given) / len(given) if given else 0.0,
        "full": full,
        "none": none,
        "part": len(given) - full - none,
    }
