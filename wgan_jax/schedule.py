"""How many updates the critic gets in each generator iteration."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class CriticSchedule:
    """`n_critic` updates an iteration, and more in those of a warm-up.

    WGAN's code gives the critic 100 updates while the iteration is below 25 and at every 500th
    (arXiv 1701.07875; `warmup=100, warmup_steps=25, warmup_every=500`).
    """

    n_critic: int = 5
    warmup: int = 0
    """Critic updates of a warm-up iteration; 0 turns the warm-up off."""
    warmup_steps: int = 25
    """The first iterations that are warm-up."""
    warmup_every: int = 500
    """Every so many iterations another one is; 0 for none."""

    def updates(self, step: int) -> int:
        """Critic updates of the generator iteration `step`, counted from 0."""
        every = self.warmup_every and step % self.warmup_every == 0
        return self.warmup if self.warmup and (step < self.warmup_steps or every) else self.n_critic

    def updates_before(self, step: int) -> int:
        """Critic updates of all iterations before `step`: where its first batch stands in the data."""
        if not self.warmup:
            return self.n_critic * step
        warm = min(step, self.warmup_steps)
        if self.warmup_every:
            multiples_below = lambda n: -(-n // self.warmup_every)  # noqa: E731
            warm += max(0, multiples_below(step) - multiples_below(self.warmup_steps))
        return self.n_critic * step + (self.warmup - self.n_critic) * warm
