"""nbgrader's configuration of a course: what replaces the solutions, and HTML without what students put into it."""

c = get_config()  # noqa: F821

c.ClearSolutions.code_stub = {"python": "# 在这里写代码\nraise NotImplementedError"}
c.ClearSolutions.text_stub = "在这里作答。"
c.HTMLExporter.sanitize_html = True
