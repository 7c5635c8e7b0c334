"""Arrays and results -> figures, with Chinese text; a net in a notebook -> a pad to draw on (`DrawingPad`)."""


def __getattr__(name: str):
    """`DrawingPad`, imported on first use: it needs the extra `notebook`."""
    if name == "DrawingPad":
        from gluon_lenet.viz.drawing_pad import DrawingPad

        return DrawingPad
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
