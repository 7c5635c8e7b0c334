"""What nbgrader reads in this folder: what stands in the student version where the solutions stood."""

c = get_config()  # noqa: F821

c.ClearSolutions.code_stub = {"python": "# 在这里写代码\nraise NotImplementedError"}
c.ClearSolutions.text_stub = "在这里作答。"
