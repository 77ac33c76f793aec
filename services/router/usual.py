"""What is usual of one figure, and since when it is not: a self-starting CUSUM; no clock of its own.

::

    z  =  (deviation - usual deviation) / spread          spread from what was usual, see below
    S  =  max(0, S + min(z, MOST) - ALLOWED)              odd once S > LIMIT, over once S = 0

(Page, "Continuous inspection schemes", Biometrika 1954). `MOST - ALLOWED < LIMIT`, so that one window,
however wild, is never enough, and two are. A deviation too small to matter counts as none. What is
usual follows slowly (`river.stats`) and stands still while S > 0; a new level that has stayed for
SETTLE_S becomes usual.

The spread of a mean of n calls is s / sqrt(n); that of what all calls share does not shrink with n. Both
are learned, and the larger one counts: spread^2 = max(E[r^2], E[n r^2] / n).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from river import stats

MOST, ALLOWED, LIMIT = 8.0, 2.0, 10.0
LEARN = 36  # windows before anything is judged
SETTLE_S = 1800.0
FADING = 1 / 120  # the weight of the last window in what is usual: ten minutes, of windows of 5 s


class Mean:
    """The mean of what was seen first, then one that fades."""

    __slots__ = ("_first", "_later")

    def __init__(self, fading: float = FADING) -> None:
        self._first: stats.Mean | None = stats.Mean()
        self._later = stats.EWMean(fading)

    def update(self, value: float) -> None:
        """Takes a value in."""
        if self._first is not None:
            self._first.update(value)
            if self._first.n >= LEARN:
                self._later.update(self._first.get())
                self._first = None
        else:
            self._later.update(value)

    def get(self) -> float:
        """The mean; 0 of nothing."""
        return float(self._later.get() if self._first is None else self._first.get())


@dataclass(slots=True)
class Usual:
    """Judges one figure, window by window.

    Attributes:
        least_spread: what is not learned to be less.
        learn: windows before anything is judged.
        odd: whether it is far from usual now, by what the windows before say.
        since: when it began to be, or seems to; in the caller's seconds.
        bad: when it last was.
        z: how far the last window was.
    """

    least_spread: float
    learn: int = LEARN
    odd: bool = False
    since: float = 0.0
    bad: float = float("-inf")
    z: float = 0.0
    _sum: float = 0.0
    _seen: int = 0
    _mean: Mean = field(default_factory=Mean)
    _square: Mean = field(default_factory=Mean)
    _scaled: Mean = field(default_factory=Mean)

    @property
    def mean(self) -> float:
        """The usual deviation."""
        return self._mean.get()

    @property
    def learned(self) -> bool:
        """Whether enough was seen to judge."""
        return self._seen >= self.learn

    def score(self, deviation: float, n: float) -> float:
        """How many spreads `deviation`, a mean of `n` calls, is above what is usual."""
        spread2 = max(self._square.get(), self._scaled.get() / max(n, 1.0), self.least_spread**2)
        return float((deviation - self.mean) / spread2**0.5)

    def judge(self, deviation: float, n: float, now: float, *, matters: bool) -> bool:
        """Takes a window in; says whether `odd` changed.

        Args:
            deviation: of the figure from what it is compared with; more is worse.
            matters: whether it is too large to be shrugged off.
        """
        if not self.learned:
            self._learn(deviation, n)
            return False
        self.z = self.score(deviation, n)
        if not matters:
            self.z = min(self.z, 0.0)
        before, was = self._sum, self.odd
        self._sum = max(0.0, before + max(min(self.z, MOST), -MOST) - ALLOWED)
        if not before and self._sum:
            self.since = now
        if self.z > ALLOWED:
            self.bad = now
        if self._sum > LIMIT:
            self.odd = True
            self._sum = min(self._sum, 2 * LIMIT)  # it is to be over soon after it is
        elif not self._sum:
            self.odd = False
            self._learn(deviation, n)
        if self._sum and now - self.since > SETTLE_S:
            self.__init__(self.least_spread, self.learn)  # type: ignore[misc]
        return self.odd != was

    def idle(self) -> bool:
        """A window without calls: what was odd fades, nothing is learned."""
        was, self.z = self.odd, 0.0
        self._sum = max(0.0, self._sum - 2 * ALLOWED)
        self.odd = was and self._sum > 0
        return self.odd != was

    def _learn(self, deviation: float, n: float) -> None:
        residual = deviation - self.mean if self._seen else 0.0
        self._seen += 1
        self._mean.update(deviation)
        self._square.update(residual**2)
        self._scaled.update(n * residual**2)
