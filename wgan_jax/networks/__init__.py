"""The networks of the generator and the critic, as Flax linen modules."""
