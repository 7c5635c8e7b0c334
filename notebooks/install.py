"""`%run install.py`, the first cell of each notebook -> `import gluon_lenet` works in its kernel, figures show inline.

The package is imported from the checkout that contains the notebook, unless it can be imported already. If a package
that it needs (such as MXNet) is missing, that checkout's requirements.txt is installed, as README.md describes.
"""


def prepare() -> None:
    """Make the package importable; a function, because %run leaves a script's global names in the notebook."""
    import importlib.util
    import re
    import subprocess
    import sys
    from pathlib import Path

    from IPython import get_ipython

    root = Path(__file__).resolve().parents[1]
    if importlib.util.find_spec("gluon_lenet") is None:
        sys.path.insert(0, str(root))
    needed = ("mxnet", "numpy", "numba", "d2lzh", "matplotlib", "PIL", "safetensors", "wrapt", "requests", "filelock")
    if any(importlib.util.find_spec(name) is None for name in needed):
        project = (root / "pyproject.toml").read_text(encoding="utf-8")
        bounds = re.search(r'^requires-python = ">=3\.(\d+),<3\.(\d+)"', project, re.MULTILINE)
        oldest, above = map(int, bounds.groups())
        if not (3, oldest) <= sys.version_info[:2] < (3, above):
            raise SystemExit(f"gluon_lenet runs on Python 3.{oldest} to 3.{above - 1}: choose such a kernel")
        loaded = sys.modules.get("numpy")
        print("installing requirements.txt, once (a minute or two) ...")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run([*pip, "--requirement", root / "requirements.txt"], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"pip could not install {root / 'requirements.txt'}:\n{done.stderr.strip()}")
        importlib.invalidate_caches()
        if loaded is not None:
            print("NumPy was already loaded: restart the kernel, then run the notebook from the beginning")
    get_ipython().run_line_magic("matplotlib", "inline")
    from matplotlib_inline.backend_inline import set_matplotlib_formats  # here: it comes with Jupyter

    set_matplotlib_formats("retina")  # 200 dots per inch


prepare()
del prepare
