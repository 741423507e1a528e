"""The cost of a training step on this machine or on a TPU pod: arithmetic, memory, exchange and time."""
