"""The error that a user's mistake ends in: one line that names the value and the remedy."""


class UserError(ValueError):
    """A mistake that the user can mend; a command prints it as one line and exits with code 2."""
