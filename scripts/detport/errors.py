"""The two ways in which a stage stops: the user's mistake (exit status 2) or a failure (exit status 1)."""

import re

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Complaint(Exception):
    """An error whose text is one line, whatever a foreign file has put into it."""

    def __str__(self) -> str:
        return CONTROL.sub(lambda found: repr(found[0])[1:-1], super().__str__())


class UsageError(Complaint):
    """Wrong usage or configuration: the text names the file or key and the remedy."""


class Failure(Complaint):
    """Something went wrong with the data or the machine: the text names the file, image or tensor."""
