"""The search in worlds that are known: what it finds, and what it never spends."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigstep.config import TrainConfig
from bigstep.records.trained import Recipe, Trial
from train.search import BUDGET, Axis, Search

RATES = TrainConfig().rates  # nine, 0.01 to 1
EPOCH = 50
CHANCE = 2.0  # nats


def axis(rates=RATES, max_steps=6000, num_seeds=5, epoch_steps=EPOCH):
    return Axis(Recipe(optimizer="sgd", rate=rates[0]), rates, num_seeds, max_steps, epoch_steps, CHANCE)


class World:
    """Answer jobs as training would: rates above `edge` diverge, others fit after `work / rate` steps.

    Those above `hops` neither diverge nor fit; those above `hovers` settle at a low loss that is no fit.
    """

    def __init__(self, edge=0.4, work=50.0, warm_edge=None, best=None, moody=(), hops=3.0, hovers=3.0):
        self.hovers = hovers
        self.edge, self.warm_edge, self.work, self.best, self.moody = edge, warm_edge or edge, work, best, moody
        self.hops = hops
        self.steps = 0
        self.jobs = []

    def answer(self, job, known):
        edge = self.warm_edge if job.recipe.warmup_steps else self.edge
        self.jobs.append(job)
        status, steps = "fitted", max(EPOCH, round(self.work / job.recipe.rate))
        if job.recipe.rate > edge or (job.recipe.rate, job.seed) in self.moody:
            status, steps = "diverged", 3 * EPOCH
        elif job.recipe.rate > min(self.hops, self.hovers):
            steps = 10**6
        if steps > job.max_steps:
            short = "stuck" if job.recipe.rate > self.hovers else "stopped"
            status, steps = ("unfitted" if job.final else short), job.max_steps
        self.steps += steps - known
        loss = 0.9 * CHANCE if job.recipe.rate > self.hops else 0.2 * CHANCE
        return Trial(name=job.name, recipe=job.recipe, seed=job.seed, status=status, steps=steps, train_loss=loss)

    def scores(self, groups):
        """Rise with the rate up to the best one, and fall beyond."""
        rates = [trials[0].recipe.rate for trials in groups]
        return [rate if self.best is None or rate <= self.best else 2 * self.best - rate for rate in rates]

    def search(self, place):
        search = Search(place, self.scores)
        rounds, trials = search.rounds(), None
        while True:
            try:
                jobs = next(rounds) if trials is None else rounds.send(trials)
            except StopIteration:
                return search
            assert jobs
            known = [search.trials.get(j.recipe, {}).get(j.seed) for j in jobs]
            trials = [self.answer(j, k.steps if k else 0) for j, k in zip(jobs, known, strict=True)]


def most_seeds(search):
    fitted = {r: s for r, s in search.trials.items() if all(t.status == "fitted" for t in s.values())}
    most = max(len(seeds) for seeds in fitted.values())
    return [recipe for recipe, seeds in fitted.items() if len(seeds) == most]


@settings(max_examples=60, deadline=None)
@given(
    edge=st.floats(0.001, 2.0),
    work=st.floats(1.0, 2000.0),
    num_rates=st.integers(1, 20),
    epoch_steps=st.sampled_from([1, 7, 63, 900, 5000, 9000]),
    best=st.none() | st.sampled_from(RATES),
)
def test_the_budget_holds_in_every_world(edge, work, num_rates, epoch_steps, best):
    world = World(edge, work, best=best)
    search = world.search(axis(TrainConfig(num_rates=num_rates).rates, epoch_steps=epoch_steps))
    assert world.steps == search.spent_steps() <= BUDGET * 6000
    assert len({(job.name, job.max_steps) for job in world.jobs}) == len(world.jobs)  # nothing is asked for twice


@pytest.mark.parametrize("edge", [0.015, 0.05, 0.2, 0.4, 0.9, 2.0])
def test_the_largest_rate_below_the_edge_is_found(edge):
    search = World(edge, work=20.0).search(axis())
    below = max(rate for rate in RATES if rate <= edge)
    [best] = most_seeds(search)
    others = sum(rate < below for rate in RATES)  # without another that fits nothing is confirmed
    assert best.rate == below and len(search.trials[best]) >= (10 if others else 5)
    assert f"up to {below:g} none diverges" in search.says[0]


@pytest.mark.parametrize("best", [0.05623, 0.03162, 0.01])
def test_it_climbs_down_while_smaller_rates_score_better(best):
    search = World(best=best, work=5.0).search(axis())
    assert {r.rate for r in most_seeds(search)} == {best}


def test_a_rate_with_one_bad_seed_is_out():
    search = World(moody=[(0.3162, 2)]).search(axis())
    assert {r.rate for r in most_seeds(search)} == {0.1778}


@pytest.mark.parametrize("seed", [5, 12])
def test_the_best_rate_is_out_if_it_fails_only_on_a_late_seed(seed):
    search = World(moody=[(0.3162, seed)]).search(axis())
    [best] = most_seeds(search)
    assert (best.rate, len(search.trials[best])) == (0.1778, 13)
    assert search.trials[search.axis.at(6)][seed].status == "diverged"  # it was the best until then


def test_the_best_rate_gets_no_more_seeds_than_the_budget_allows():
    search = World(work=600.0).search(axis())  # 1,898 steps a training, and up to twice that are set aside
    [best] = most_seeds(search)
    assert best.rate == 0.3162 and 1 < len(search.trials[best]) < 13


def test_rates_that_hop_about_are_not_trained_to_the_end():
    world = World(edge=2.0, hops=0.2, work=20.0)
    search = world.search(axis())
    [best] = most_seeds(search)
    assert (best.rate, len(search.trials[best])) == (0.1778, 13)
    assert not [job for job in world.jobs if job.recipe.rate > 0.2 and job.final]
    assert search.says[0] == "In 750 steps up to 0.1778 none diverges or collapses; 0.3162 overshoots."


def test_where_every_rate_is_as_slow_none_overshoots():
    world = World(edge=2.0, hops=0.0)
    search = world.search(axis())
    assert search.says[0] == "In 750 steps up to 1 none diverges or collapses."


def test_where_every_rate_diverges_little_is_spent():
    world = World(edge=0.001)
    search = world.search(axis())
    assert search.says == ["In 750 steps every rate diverges or collapses; 0.01 diverged."]
    assert world.steps <= 6000 and not any(t.status == "fitted" for s in search.trials.values() for t in s.values())


def test_a_warm_up_that_helps_widens_the_band():
    search = World(edge=0.2, warm_edge=0.4).search(axis())
    [best] = most_seeds(search)
    assert (best.rate, best.warmup_steps) == (0.3162, 2 * EPOCH)
    assert search.says[1] == "With 100 steps of warm-up 0.3162 does not fail either."


def test_a_single_rate_that_fails_is_tried_with_a_warm_up():
    search = World(edge=0.2, warm_edge=2.0).search(axis([0.5]))
    [best] = most_seeds(search)
    assert (best.rate, best.warmup_steps, len(search.trials[best])) == (0.5, 2 * EPOCH, 5)


def test_rates_that_hover_do_not_take_the_budget_of_those_that_fit():
    search = World(edge=2.0, work=60.0, hovers=0.06).search(axis())
    assert {r.rate for r in most_seeds(search)} == {0.05623}


def test_where_all_rates_hover_the_search_ends_within_its_budget():
    search = World(edge=2.0, hovers=0.001).search(axis())
    assert search.spent_steps() <= BUDGET * 6000
    assert not any(t.status == "fitted" for s in search.trials.values() for t in s.values())


def test_a_rate_that_nothing_can_replace_is_not_put_to_further_tests():
    search = World(work=5.0, moody=[(0.1, 5)]).search(axis([0.1], num_seeds=4))
    assert [len(s) for s in search.trials.values()] == [4]


def survivors(*gains, chance=CHANCE):
    """Return the positions of the rates that survive a short trial, by how far each loss fell below that of guessing.

    Gains are parts of the loss of guessing, by position.
    """
    place = Axis(Recipe(optimizer="sgd", rate=RATES[0]), RATES, 5, 6000, EPOCH, chance)
    search = Search(place, World().scores)
    recipes = [place.at(k) for k in range(len(gains))]
    for recipe, gain in zip(recipes, gains, strict=True):
        loss = chance * (1 - gain)
        short = {"name": recipe.name, "seed": 0, "status": "stopped", "steps": EPOCH}
        search.trials[recipe] = {0: Trial(recipe=recipe, train_loss=loss, **short)}
    return [k for k, recipe in enumerate(recipes) if search.survives(recipe)]


@pytest.mark.parametrize(
    ("gains", "surviving"),
    [
        ((0.9, 0.46), [0, 1]),  # half of what a smaller rate has gained ...
        ((0.9, 0.44), [0]),
        ((0.4, 0.9, 0.46, 0.44), [0, 1, 2]),  # ... of all that are smaller
        ((0.9, 0.1, 0.9), [0, 2]),
        ((0.0, -0.09), [0, 1]),  # or a tenth of the loss of guessing above that
        ((0.0, -0.11), [0]),
        ((-0.09,), [0]),
        ((-0.11,), []),
        ((-0.5, -0.09), [1]),
        ((0.12, 0.03), [0, 1]),  # on a plateau half is no measure: a tenth behind is
        ((0.12, 0.01), [0]),
    ],
)
def test_what_overshoots(gains, surviving):
    assert survivors(*gains) == surviving


plateau = st.lists(st.floats(-0.0499, 0.0499), min_size=1, max_size=len(RATES))


@settings(max_examples=200, deadline=None)
@given(gains=plateau, chance=st.floats(0.1, 10))
def test_no_rate_overshoots_on_a_plateau(gains, chance):
    """Where losses lie within a tenth of that of guessing of each other none tells that a rate is too large."""
    assert survivors(*gains, chance=chance) == list(range(len(gains)))


@settings(max_examples=200, deadline=None)
@given(gains=st.lists(st.floats(-2, 1), min_size=2, max_size=len(RATES)), up=st.floats(0, 1))
def test_gaining_more_never_makes_a_rate_overshoot(gains, up):
    last = len(gains) - 1
    if last in survivors(*gains):
        assert last in survivors(*gains[:-1], gains[-1] + up)
    assert last in survivors(*gains[:-1], max([0.0, *gains[:-1]]))  # no smaller rate is ahead of it


def test_a_rate_on_a_plateau_is_not_fenced_off():
    """Losses slightly above that of guessing: half of a tiny loss of ground once was the limit for larger rates."""

    class Plateau(World):
        def answer(self, job, known):
            trial = super().answer(job, known)
            if trial.status == "stopped":
                return trial.model_copy(update={"train_loss": CHANCE * (1.001 + job.recipe.rate / 100)})
            return trial

    search = Plateau(edge=2.0, work=400.0).search(axis(max_steps=6000))
    assert search.says[0] == "In 750 steps up to 1 none diverges or collapses."
    assert {r.rate for r in most_seeds(search)} == {1.0}


def test_slow_trainings_are_few():
    world = World(work=1500.0, edge=0.4)  # 4,744 steps at the best rate: hardly two of them can be afforded
    search = world.search(axis())
    assert {r.rate for r in most_seeds(search)} == {0.3162}


def test_a_further_seed_gets_twice_the_steps_of_the_slowest_before_it():
    world = World(edge=0.4, work=300.0)
    search = world.search(axis())
    further = [job for job in world.jobs if job.seed > 0]
    assert len(further) > 5 and len({job.recipe for job in further}) > 1
    for job in further:
        needed = max(EPOCH, round(300.0 / job.recipe.rate))
        assert 2 * needed <= job.max_steps < 2 * needed + EPOCH
    assert search.spent_steps() <= BUDGET * 6000


def test_the_rates_are_halved_once_each_has_three_seeds():
    world = World(edge=2.0, work=1.0, best=0.1)  # from 1 down to 0.05623, and none of them slow
    world.search(axis(TrainConfig(num_rates=9).rates, num_seeds=5))
    repeated = [world.jobs[k] for k in range(len(world.jobs)) if world.jobs[k].seed > 0]
    counts = [len({job.recipe for job in repeated if job.seed == seed}) for seed in range(1, 5)]
    assert counts == [6, 6, 3, 1]
    assert next(job.recipe.rate for job in repeated if job.seed == 4) == 0.1


def test_a_single_rate_gets_all_seeds():
    search = World().search(axis([0.1]))
    assert [len(s) for s in search.trials.values()] == [5]
