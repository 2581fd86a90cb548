"""Command lines in the manner of gflags: one or two dashes, `name=value` or `name value`."""


class FlagError(Exception):
    """An option that the program does not have, or one without its value."""


def parse(arguments: list[str], known: set[str], switches: tuple[str, ...] = ("help", "h")) -> dict[str, str]:
    """Value by name; the last one wins. A switch may stand without a value."""
    found: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("-"):
            raise FlagError(f"unexpected argument '{argument}'")
        name, equals, value = argument.lstrip("-").partition("=")
        if name not in known:
            raise FlagError(f"unknown command line flag '{name}'")
        if name in switches and not equals:
            value = "true"
        elif not equals:
            if not rest:
                raise FlagError(f"flag '{name}' is missing its argument")
            value = rest.pop(0)
        found[name] = value
    return found


def number(options: dict[str, str], name: str, default: int, lowest: int, highest: int) -> int:
    """A whole number within its range."""
    text = options.get(name, str(default))
    if not text.isdecimal() or not lowest <= int(text) <= highest:
        raise FlagError(f"{name} must be in {lowest} to {highest}, not '{text}'")
    return int(text)
