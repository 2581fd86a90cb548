"""What unit tests of decoders share."""

from collections.abc import Callable

import numpy as np
import pytest

from detport import decoders, schemas


@pytest.fixture
def decode() -> Callable[..., list[dict]]:
    """decode(outputs, image, kind=..., categories=..., ...): the rows of a decoder; other settings are the defaults."""

    def run(outputs: dict[str, np.ndarray], image: dict, **settings) -> list[dict]:
        schemas.validate(settings, schemas.plugin("decoders", settings["kind"]), "model.yaml", {}, ("decode",))
        categories = decoders.categories(settings["categories"])
        return decoders.load(settings["kind"]).decode(outputs, image, settings, categories)

    return run
