"""The bounds against statsmodels, R, brute force and simulation, and the properties that a gate relies on."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint

from bigstep.intervals import accuracy_interval, detectable_drop, drop_interval, effective_size

CONFIDENCE = 0.95
Z2 = norm.ppf(CONFIDENCE) ** 2


def accuracy(right, n, confidence=CONFIDENCE):
    return accuracy_interval(np.arange(n) < right, np.arange(n), confidence)


def drop(lost, won, n, confidence=CONFIDENCE):
    """Bound the drop for n independent pairs of which `lost` got wrong and `won` got right."""
    before = (np.arange(n) < lost) | (np.arange(n) >= lost + won)
    after = np.arange(n) >= lost
    return drop_interval(before, after, np.arange(n), confidence)


counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
triples = st.integers(1, 300).flatmap(
    lambda n: st.integers(0, n).flatmap(lambda b: st.tuples(st.just(b), st.integers(0, n - b), st.just(n)))
)
confidences = st.floats(0.51, 0.999)


@st.composite
def clustered(draw):
    """Draw two models' rights and wrongs on up to 60 images in up to 20 clusters."""
    n = draw(st.integers(1, 60))
    columns = st.lists(st.booleans(), min_size=n, max_size=n)
    clusters = draw(st.lists(st.integers(0, 19), min_size=n, max_size=n))
    return np.array(draw(columns)), np.array(draw(columns)), np.array(clusters)


# ---- one model -------------------------------------------------------------------------------------------------------


@given(counts, confidences)
def test_wilson_equals_statsmodels_for_independent_images(count, confidence):
    right, n = count
    low, high = proportion_confint(right, n, alpha=2 * (1 - confidence), method="wilson")
    found = accuracy(right, n, confidence)
    assert (found.low, found.high) == pytest.approx((max(low, 0), min(high, 1)), abs=1e-12)


@pytest.mark.parametrize(
    ("n", "right", "low", "high"),
    [(20, 18, 0.699, 0.972), (50, 45, 0.786, 0.957), (100, 90, 0.826, 0.945), (642, 578, 0.875, 0.921)],
)
def test_wilson_of_known_tables(n, right, low, high):
    found = accuracy(right, n, 0.975)
    assert (round(found.low, 3), round(found.high, 3)) == (low, high)


@given(clustered(), confidences)
def test_accuracy_bounds_are_ordered_and_within_zero_and_one(data, confidence):
    correct, _, clusters = data
    found = accuracy_interval(correct, clusters, confidence)
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    sizes = np.unique(clusters, return_counts=True)[1]
    assert found.n**2 / np.sum(sizes**2) - 1e-9 <= found.effective_n <= found.n


@given(clustered(), confidences, confidences)
def test_more_confidence_never_narrows(data, one, other):
    before, after, clusters = data
    less, more = sorted((one, other))
    for narrow, wide in (
        (accuracy_interval(before, clusters, less), accuracy_interval(before, clusters, more)),
        (drop_interval(before, after, clusters, less), drop_interval(before, after, clusters, more)),
    ):
        assert wide.low <= narrow.low + 1e-9
        assert narrow.high <= wide.high + 1e-9


# ---- two models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "won", "n", "confidence", "low", "high"),
    [
        (60, 20, 1000, 0.975, 0.0231, 0.0584),  # scoreci.mp(20, 60, 1000) of R's PropCIs
        (28, 25, 618, 0.95, -0.0148, 0.0247),  # scoreci.mp(25, 28, 618, conf.level = 0.90)
    ],
)
def test_tango_equals_propcis(lost, won, n, confidence, low, high):
    found = drop(lost, won, n, confidence)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@given(st.integers(1, 2000), confidences)
def test_without_discordant_pairs_the_bound_is_in_closed_form(n, confidence):
    z2 = norm.ppf(confidence) ** 2
    found = drop(0, 0, n, confidence)
    assert found.high == pytest.approx(z2 / (n + z2), abs=1e-8)
    assert found.low == pytest.approx(-z2 / (n + z2), abs=1e-8)


@pytest.mark.parametrize(("lost", "won", "n"), [(5, 0, 100), (8, 2, 60), (1, 7, 50), (30, 15, 45), (3, 3, 12)])
def test_tango_bound_solves_the_score_equation_by_brute_force(lost, won, n):
    """At the bound, (drop - bound) / its standard error under the likeliest table with that drop is -z."""
    bound = drop(lost, won, n).high

    def loss(p_won):
        p_lost = p_won + bound
        concordant = 1 - p_won - p_lost
        terms = [(won, p_won), (lost, p_lost), (n - won - lost, concordant)]
        return -sum(k * np.log(p) for k, p in terms if k)

    edge = (1 - bound) / 2
    p_won = minimize_scalar(loss, bounds=(1e-12, edge - 1e-12), method="bounded", options={"xatol": 1e-12}).x
    error = sqrt((2 * p_won + bound - bound**2) / n)
    assert ((lost - won) / n - bound) / error == pytest.approx(-norm.ppf(CONFIDENCE), abs=1e-3)


@given(triples, confidences)
def test_swapping_the_models_mirrors_the_drop(triple, confidence):
    lost, won, n = triple
    one, other = drop(lost, won, n, confidence), drop(won, lost, n, confidence)
    assert (one.estimate, one.low, one.high) == pytest.approx((-other.estimate, -other.high, -other.low), abs=1e-8)


@given(clustered(), confidences)
def test_drop_bounds_are_ordered_and_within_one(data, confidence):
    found = drop_interval(*data, confidence)
    assert -1 <= found.low <= found.estimate <= found.high <= 1


def test_everything_lost_is_bounded_by_one():
    found = drop(50, 0, 50)
    assert (found.estimate, found.high) == (1.0, 1.0)
    assert 0.85 < found.low < 1.0


# ---- clusters --------------------------------------------------------------------------------------------------------


@given(clustered(), st.integers(2, 4))
def test_copies_of_whole_independent_images_are_worth_nothing(data, times):
    before, after, _ = data
    own = np.arange(len(before))
    once = drop_interval(before, after, own, CONFIDENCE)
    again = drop_interval(*(np.repeat(column, times) for column in (before, after, own)), CONFIDENCE)
    assert (again.low, again.high) == pytest.approx((once.low, once.high), abs=1e-8)
    one = accuracy_interval(before, own, CONFIDENCE)
    more = accuracy_interval(np.repeat(before, times), np.repeat(own, times), CONFIDENCE)
    assert (more.low, more.high) == pytest.approx((one.low, one.high), abs=1e-12)


@given(clustered(), st.integers(2, 4))
def test_duplicating_images_that_agree_within_their_cluster_changes_nothing(data, times):
    correct, _, clusters = data
    agreeing = correct[np.unique(clusters, return_index=True)[1]][np.unique(clusters, return_inverse=True)[1]]
    assume(len(np.unique(clusters)) < len(clusters))
    once = accuracy_interval(agreeing, clusters, CONFIDENCE)
    again = accuracy_interval(np.repeat(agreeing, times), np.repeat(clusters, times), CONFIDENCE)
    assert (again.low, again.high) == pytest.approx((once.low, once.high), abs=1e-9)


def test_one_more_loss_does_not_tighten_a_bound_by_much():
    """Few deviating digits say little about dependence: the bound must not collapse at the first of them."""
    clusters = np.repeat(np.arange(360), 9)
    bounds = []
    for lost in (0, 1, 2, 3, 10):
        after = np.ones((360, 9), dtype=bool)
        after[:lost, 0] = False
        bounds.append(drop_interval(np.ones(3240, dtype=bool), after.ravel(), clusters, CONFIDENCE).high)
    assert min(bounds) > 0.85 * bounds[0]
    assert bounds[-1] > bounds[0]


@pytest.mark.parametrize(("sources", "truth"), [(360, 0.03), (36, 0.03), (30, 0.05)])
def test_a_drop_at_the_margin_passes_no_more_often_than_it_may(sources, truth):
    rng = np.random.default_rng(7)
    clusters, draws, passed = np.repeat(np.arange(sources), 9), 300, 0
    for _ in range(draws):
        lost = (rng.random((sources, 9)) < 0.4) & (rng.random(sources) < truth / 0.4)[:, None]
        passed += drop_interval(np.ones(sources * 9, bool), ~lost.ravel(), clusters, CONFIDENCE).high <= truth
    assert passed / draws <= 0.05 + 2 * 0.0126  # two standard errors of 300 draws


def test_images_that_agree_within_their_cluster_count_once():
    clusters = np.repeat(np.arange(40), 10)
    right = np.repeat(np.arange(40) < 30, 10)
    assert effective_size(right.astype(float), clusters) == 40


def test_images_that_are_alike_only_by_chance_count_in_full():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(200), 10)
    assert effective_size(rng.random(2000), clusters) > 1500


@settings(max_examples=30)
@given(st.booleans(), st.integers(1, 30))
def test_one_cluster_is_one_image(value, n):
    assert effective_size(np.full(n, float(value)), np.zeros(n, int)) == 1


def test_upper_bound_of_a_clustered_drop_covers_as_often_as_it_says():
    rng = np.random.default_rng(20261122)
    sources, colours, draws = 80, 9, 400
    clusters = np.repeat(np.arange(sources), colours)
    covered = 0
    # Beta-distributed risks per source: some sources lose in nearly every colour, most in none.
    mean_lost, mean_won, spread = 0.06, 0.02, 1.5
    for _ in range(draws):
        risk = np.repeat(rng.beta(spread * mean_lost, spread * (1 - mean_lost), sources), colours)
        luck = np.repeat(rng.beta(spread * mean_won, spread * (1 - mean_won), sources), colours)
        lost = rng.random(sources * colours) < risk
        won = ~lost & (rng.random(sources * colours) < luck)
        truth = mean_lost - (1 - mean_lost) * mean_won
        covered += drop_interval(~won, ~lost, clusters, CONFIDENCE).high >= truth
    assert 0.92 <= covered / draws <= 0.99  # 0.95 give or take three standard errors, and a little conservatism


def test_bound_that_ignored_the_clusters_would_not_cover():
    """Show that the simulation above can fail: the same bound for supposedly independent images covers far less."""
    rng = np.random.default_rng(20261122)
    covered = 0
    for _ in range(200):
        lost = np.repeat(rng.random(80) < 0.06, 9)
        covered += drop_interval(np.ones(720, bool), ~lost, np.arange(720), CONFIDENCE).high >= 0.06
    assert covered / 200 < 0.85


# ---- power -----------------------------------------------------------------------------------------------------------


def test_detectable_drop_shrinks_with_data_and_grows_with_discordance():
    few, many = drop(5, 0, 100), drop(50, 0, 1000)
    assert detectable_drop(many, 0.05, CONFIDENCE) < detectable_drop(few, 0.05, CONFIDENCE)
    assert detectable_drop(few, 0.05, CONFIDENCE) < detectable_drop(few, 0.20, CONFIDENCE)
    expected = (norm.ppf(0.95) + norm.ppf(0.8)) * sqrt(0.05 / 100)
    assert detectable_drop(few, 0.05, CONFIDENCE) == pytest.approx(expected)


def test_detectable_drop_is_not_zero_without_discordance():
    assert detectable_drop(drop(0, 0, 100), 0.0, CONFIDENCE) > 0.01
