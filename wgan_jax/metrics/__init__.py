"""How good a state or its samples are."""
