"""What the checks of networks with several contracts share: the outputs of a yaml beside those of its contract."""


def unlike(declared: list[dict], expected: list[dict], contract: str, canvas: str = "") -> tuple[tuple, str] | None:
    """Key and text of what is wrong; names that a contract leaves open may be any."""
    if [{key: output[key] for key in expected[0]} for output in declared] == expected:
        return None
    return ("outputs",), (
        f"network.contract {contract}{canvas} has {signature(expected)}; declared are {signature(declared)}; correct"
        " outputs or network.contract"
    )


def signature(outputs: list[dict]) -> str:
    """Name, type and shape of outputs."""
    return ", ".join(f"{o.get('name', '(any name)')} {o['dtype']} {o['shape']}" for o in outputs)
