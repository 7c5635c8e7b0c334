"""Errors whose messages are shown to the user."""


class InputError(ValueError):
    """Input that cannot be used: one line that names it and says what would be right; exit status 2."""


class DataError(Exception):
    """Data that cannot be fetched or cached: the sources tried, why each failed, what to do; exit status 1."""


class DiskError(OSError):
    """A disk that is full or fails: one line that begins with the file's path; exit status 1."""


def printable(text: str) -> str:
    """The text on one line; escaped if it has characters that cannot be printed."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
