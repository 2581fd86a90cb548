"""Command lines in the manner of gflags: one or two dashes, `name=value` or `name value`."""


class FlagError(Exception):
    """An option that the program does not have, or one without its value."""


def parse(arguments: list[str], known: set[str]) -> dict[str, str]:
    """Value by name; the last one wins."""
    found: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("-"):
            raise FlagError(f"unexpected argument '{argument}'")
        name, equals, value = argument.lstrip("-").partition("=")
        if name not in known:
            raise FlagError(f"unknown command line flag '{name}'")
        if not equals:
            if not rest:
                raise FlagError(f"flag '{name}' is missing its argument")
            value = rest.pop(0)
        found[name] = value
    return found
