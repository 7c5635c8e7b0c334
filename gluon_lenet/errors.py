"""What a user gave and cannot be used -> one line that names it and says what would be right."""


class InputError(ValueError):
    """Bad input; command lines print its message, one line, and leave with status 2."""
