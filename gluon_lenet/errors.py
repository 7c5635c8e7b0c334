"""What goes wrong on the user's side -> a message for him."""


class InputError(ValueError):
    """What the user gave cannot be used: one line that names it and says what would be right; exit status 2."""


class DataError(Exception):
    """The data cannot be had or kept: every source that was tried, why it failed, what to do; exit status 1."""


class DiskError(OSError):
    """A file cannot be written or read, as the disk is full or fails: one line that begins with it; exit status 1."""


def printable(text: str) -> str:
    """The text on one line, whatever is in it."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
