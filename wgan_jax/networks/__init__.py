"""Networks of the two players, in linen."""
