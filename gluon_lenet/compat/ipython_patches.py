"""IPython.display, just imported -> with the function that d2lzh calls and IPython 9 removed."""


def patch_display(display):
    """Give IPython.display back `set_matplotlib_formats`, which d2lzh calls and IPython 9 removed."""
    if "set_matplotlib_formats" not in vars(display):
        display.set_matplotlib_formats = set_matplotlib_formats


def set_matplotlib_formats(*formats, **kwargs):
    """`IPython.display.set_matplotlib_formats`, removed in IPython 9: sets the formats of a notebook's figures."""
    from IPython import get_ipython

    if get_ipython():  # in a script there is nothing to set, and the call would start a shell
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats(*formats, **kwargs)
