"""nbgrader's configuration in this folder: the text that replaces the solutions in the student version."""

c = get_config()  # noqa: F821

c.ClearSolutions.code_stub = {"python": "# 在这里写代码\nraise NotImplementedError"}
c.ClearSolutions.text_stub = "在这里作答。"
