"""The arrays of one network."""

import dataclasses

import chex
from flax import struct


@struct.dataclass
class Player:
    """One network's arrays."""

    variables: dict[str, chex.ArrayTree]
    """Collections of linen: `params`, and `batch_stats` where a batch norm keeps running statistics."""
    opt_state: chex.ArrayTree
    """State of the optimizer."""
    constraint: chex.ArrayTree = ()
    """State of the critic's constraint. Most have none, which adds no array."""

    @property
    def params(self) -> chex.ArrayTree:
        """The trained parameters."""
        return self.variables["params"]

    def with_params(self, params: chex.ArrayTree) -> "Player":
        """Returns the player with other parameters."""
        return self.with_variables(self.variables | {"params": params})

    def with_variables(self, variables: dict[str, chex.ArrayTree]) -> "Player":
        """Returns the player with other parameters and running statistics."""
        return dataclasses.replace(self, variables=variables)
