"""What the last layer of a network leaves to its decoder, in float32."""

import numpy as np


def exp(x: np.ndarray) -> np.ndarray:
    """float32, but rounded from float64: float32's own exp differs in the last digit between processors."""
    with np.errstate(over="ignore"):  # a wild number becomes infinity
        return np.exp(x, dtype=np.float64).astype(np.float32)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + exp(-logits))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
