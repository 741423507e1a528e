"""The arrays of one network."""

import dataclasses
from typing import Any

from flax import struct


@struct.dataclass
class Player:
    """One network's arrays."""

    variables: dict[str, Any]
    """Collections of linen: `params`, and `batch_stats` where a batch norm keeps running statistics."""
    opt_state: Any
    """State of the optimizer."""
    constraint: Any = ()
    """State of the critic's constraint. Most have none, which adds no array."""

    @property
    def params(self) -> Any:
        """The trained parameters."""
        return self.variables["params"]

    def with_params(self, params: Any) -> "Player":
        """Returns the player with other parameters."""
        return self.with_variables(self.variables | {"params": params})

    def with_variables(self, variables: dict[str, Any]) -> "Player":
        """Returns the player with other parameters and running statistics."""
        return dataclasses.replace(self, variables=variables)
