"""Find the learning rate with few steps: at most BUDGET times those of one training, every trial counted.

What is looked for lies just below the convergence threshold (Barsbey et al. 2025, arXiv:2507.17748, abstract;
Sadrtdinov et al. 2024, arXiv:2410.22113, abstract), so that is where the steps go, in four acts:

1. *Fence*: bisect the grid for the largest rate below which nothing diverges, collapses or overshoots, with short
   trials. One overshoots whose loss has fallen plainly less than half as far below that of guessing as a smaller
   rate's: it hops about. On moons and stars such rates take whole trainings to fail, which left nothing for those
   that fit.
2. *Climb*: train that rate and the two below it to the end, those that got stuck at a high loss first to go; go on
   downwards while the lowest of them scores best. Where a rate just above the fence survives with a warm-up, it is one
   of them.
3. *Repeat*: give the best more seeds, halving the rates as they go. A rate of which one seed did not fit is out.
4. *Confirm*: give the very best more seeds still. At the edge of divergence few seeds say little: on the digits one of
   the rates fails on 3 seeds of 10 and passes five of them in every sixth search (benchmarks/results/choosing.md).

A short trial that was not finished goes on from its last step when it is wanted again, so no step is made twice. Which
trials run next depends on the results of earlier ones alone, never on a clock or the number of processes.
"""

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

from bigstep.records.trained import FAILED, UNFINISHED, Recipe, Trial
from train.setup import Job

BUDGET = 4.0  # trainings' worth of steps
SHORT = 1 / 8  # part of one training that a short trial gets
POINTS = 3  # rates of one round of the bisection
CANDIDATES = 3  # rates that are trained to the end at first
HALVE_FROM = 3  # seeds of a rate after which only the better half goes on
CONFIRM = 2  # times as many further seeds as the repetition has, for the best rate
PATIENCE = 2.0  # a further seed of a rate gets this many times the steps of its slowest seed so far
OVERSHOT = 1 / 2  # part of what a smaller rate has gained in as many steps, below which a short trial has failed
LOST = 0.1  # part of the loss of guessing by which a short trial may end above a smaller rate's, or above guessing's

Rounds = Generator[Sequence[Job], Sequence[Trial], None]
Scores = Callable[[Sequence[Sequence[Trial]]], Sequence[float]]


@dataclass(frozen=True)
class Axis:
    """What is searched: the recipe without its rate, the rates, seeds, and steps of one training and one epoch.

    `chance_loss` is the loss of guessing, in nats.
    """

    recipe: Recipe
    rates: Sequence[float]
    num_seeds: int
    max_steps: int
    epoch_steps: int
    chance_loss: float

    @property
    def short_steps(self) -> int:
        """Return the steps of a short trial, whole epochs: at least one, at most a whole training."""
        epochs = max(1, round(SHORT * self.max_steps / self.epoch_steps))
        return min(self.max_steps, epochs * self.epoch_steps)

    def at(self, position: int) -> Recipe:
        """Return the recipe at one of the rates."""
        return self.recipe.model_copy(update={"rate": self.rates[position]})

    def warmed(self, position: int) -> Recipe:
        """Return the recipe at one of the rates with two epochs of warm-up, or as many as half a short trial has."""
        steps = min(2 * self.epoch_steps, self.short_steps // 2)
        return self.at(position).model_copy(update={"warmup_steps": max(self.recipe.warmup_steps, steps)})


@dataclass
class Search:
    """A search for a rate: which trials run next.

    `scores` says how good recipes that fitted are, given the trials of each, by one measure for all. `trials` holds the
    latest result of each seed of each recipe, `says` what was found, a sentence each.
    """

    axis: Axis
    scores: Scores
    trials: dict[Recipe, dict[int, Trial]] = field(default_factory=dict)
    says: list[str] = field(default_factory=list)

    def rounds(self) -> Rounds:
        """Yield rounds of jobs and take their trials, in the same order, until the search is over."""
        fence = yield from self._fence()
        yield from self._repeat((yield from self._climb(fence)))
        yield from self._confirm()

    def spent_steps(self) -> int:
        """Return the steps of all trials so far; a trial that went on counts once, with all of its steps."""
        return sum(trial.steps for seeds in self.trials.values() for trial in seeds.values())

    # ---- Acts --------------------------------------------------------------------------------------------------------

    def _fence(self) -> Generator[Sequence[Job], Sequence[Trial], int]:
        """Return the position of the largest rate below all that fail in a short trial, -1 if the smallest fails."""
        low, high = -1, len(self.axis.rates)  # low survives, high fails; both ends are only believed
        while high - low > 1:
            inside = _spread(low, high, POINTS)
            yield from self._run([(self.axis.at(k), 0) for k in inside], self.axis.short_steps)
            tried = [k for k in inside if self.axis.at(k) in self.trials]
            if not tried:  # the budget is spent
                break
            failing = [k for k in tried if not self.survives(self.axis.at(k))]
            high = min(failing, default=high)
            low = max((k for k in tried if k < high), default=low)
        self.says.append(f"In {self.axis.short_steps} steps {self._fence_in_words(low, high)}.")
        return low

    def _fence_in_words(self, low: int, high: int) -> str:
        rates = self.axis.rates
        below = f"up to {rates[low]:g} none diverges or collapses" if low >= 0 else "every rate diverges or collapses"
        if high < len(rates):
            return f"{below}; {rates[high]:g} {self._failure(self.axis.at(high))}"
        return below if low == len(rates) - 1 else f"{below}; larger ones were not tried, the budget being spent"

    def _climb(self, fence: int) -> Generator[Sequence[Job], Sequence[Trial], list[Recipe]]:
        """Return the recipes that fitted, after training those just below the fence to the end."""
        lowest = max(0, fence - CANDIDATES + 1)
        recipes = [self.axis.at(k) for k in range(fence, lowest - 1, -1)]
        short = [recipe for recipe in recipes if recipe not in self.trials]
        if fence + 1 < len(self.axis.rates):
            short.append(self.axis.warmed(fence + 1))
        yield from self._run([(recipe, 0) for recipe in short], self.axis.short_steps)
        for recipe in short:
            if recipe.warmup_steps > self.axis.recipe.warmup_steps and self.survives(recipe):
                self.says.append(f"With {recipe.warmup_steps} steps of warm-up {recipe.rate:g} does not fail either.")
                recipes.insert(0, recipe)
        while True:
            yield from self._finish(recipes, "stopped")
            fitted = [r for r in recipes if self._fits(r)]
            best = next(iter(self._best_first(fitted)), None)
            if lowest == 0 or best not in (None, recipes[-1]):
                break
            # Where nothing fits yet, small steps down the grid would spend the budget on more of the same.
            lowest = lowest - 1 if best else lowest // 2
            recipes.append(self.axis.at(lowest))
        if not fitted:
            yield from self._finish(recipes, "stuck")
        return [r for r in recipes if self._fits(r)]

    def _finish(self, recipes: Sequence[Recipe], status: str) -> Rounds:
        """Train the first seed of the recipes without a trial, or with one of this status, to the end.

        The larger rates come first, since theory says that they are better, two at a time, and no more once a pair has
        not fitted.
        """
        begun = [r for r in recipes if r not in self.trials or self._first(r).status == status]
        begun.sort(key=lambda r: -r.rate)
        for pair in (begun[start : start + 2] for start in range(0, len(begun), 2)):
            yield from self._run([(recipe, 0) for recipe in pair], self.axis.max_steps)
            if not any(self._fits(recipe) for recipe in recipes):
                return

    def _repeat(self, recipes: Sequence[Recipe]) -> Rounds:
        """Add a seed to each of the best rates, round by round; halve the rates once each has a few."""
        for seed in range(1, self.axis.num_seeds):
            alive = self._best_first([r for r in recipes if self._fits(r)])
            if seed >= HALVE_FROM:
                alive = alive[: max(1, len(alive) // 2)]
            yield from self._run([(recipe, seed) for recipe in alive], None)
            recipes = [recipe for recipe in alive if seed in self.trials[recipe]]

    def _confirm(self) -> Rounds:
        """Add seeds to the best rate as long as the budget lasts; where one fails, the next best has its turn."""
        further = self.axis.num_seeds - 1
        most = self.axis.num_seeds + CONFIRM * further
        while True:
            fitting = [recipe for recipe in self.trials if self._fits(recipe)]
            if len(fitting) < 2:  # there is nothing to turn to
                return
            best = self._best_first(fitting)[0]
            known = len(self._seeds(best))
            if known >= most:
                return
            yield from self._run([(best, seed) for seed in range(known, min(known + further, most))], None)
            if len(self._seeds(best)) == known:  # the budget is spent
                return

    # ---- Trials ------------------------------------------------------------------------------------------------------

    def _run(self, wanted: Sequence[tuple[Recipe, int]], steps: int | None) -> Rounds:
        """Run trials up to some steps (None: as patience has it), leaving out what the budget does not allow."""
        jobs: list[Job] = []
        left = BUDGET * self.axis.max_steps - self.spent_steps()
        for recipe, seed in wanted:
            limit = self._patience(recipe) if steps is None else steps
            known = self.trials.get(recipe, {}).get(seed)
            cost = limit - (known.steps if known else 0)
            if cost <= left:
                left -= cost
                final = steps is None or steps >= self.axis.max_steps
                jobs.append(Job(f"{recipe.name}-s{seed}", recipe, seed, limit, final))
        if jobs:
            found = yield jobs
            for job, trial in zip(jobs, found, strict=True):
                self.trials.setdefault(job.recipe, {})[job.seed] = trial

    def _first(self, recipe: Recipe) -> Trial:
        return self.trials[recipe][0]

    def _seeds(self, recipe: Recipe) -> list[Trial]:
        return list(self.trials[recipe].values())

    def survives(self, recipe: Recipe) -> bool:
        """Say whether a short trial of a recipe neither failed nor overshot."""
        return recipe in self.trials and self._first(recipe).status not in FAILED and not self._overshoots(recipe)

    def _failure(self, recipe: Recipe) -> str:
        return "overshoots" if self._overshoots(recipe) else self._first(recipe).status

    def _overshoots(self, recipe: Recipe) -> bool:
        """Say whether a short trial has gained less than OVERSHOT of what a smaller rate has, and plainly less.

        least = min(OVERSHOT * g, g - LOST * chance),   g = max(0, the largest gain of a smaller rate)

        On a plateau, where losses stay near that of guessing, half of nothing tells no rate from another: it takes a
        loss that is higher by a part LOST of that of guessing. A run that diverges or collapses may show in no more.
        """
        best = max([0.0, *(self._gain(other) for other in self.trials if other.rate < recipe.rate)])
        least = min(OVERSHOT * best, best - LOST * self.axis.chance_loss)
        return self._first(recipe).status in UNFINISHED and self._gain(recipe) < least

    def _gain(self, recipe: Recipe) -> float:
        """Return how far the loss of a short trial has fallen below that of guessing, in nats; 0.0 if it diverged."""
        loss = self._first(recipe).train_loss
        return 0.0 if loss is None else self.axis.chance_loss - loss

    def _best_first(self, recipes: Sequence[Recipe]) -> list[Recipe]:
        scores = dict(zip(recipes, self.scores([self._seeds(r) for r in recipes]), strict=True))
        return sorted(recipes, key=lambda r: -scores[r])

    def _fits(self, recipe: Recipe) -> bool:
        return recipe in self.trials and all(trial.status == "fitted" for trial in self._seeds(recipe))

    def _patience(self, recipe: Recipe) -> int:
        slowest = max(trial.steps for trial in self._seeds(recipe))
        epochs = math.ceil(PATIENCE * slowest / self.axis.epoch_steps)
        return min(self.axis.max_steps, epochs * self.axis.epoch_steps)


def _spread(low: int, high: int, points: int) -> list[int]:
    """Return at most so many positions that divide the gap between two others evenly."""
    places = (low + round((high - low) * k / (points + 1)) for k in range(1, points + 1))
    return sorted({place for place in places if low < place < high})
