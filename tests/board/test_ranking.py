"""The statistics of the board against known truths."""

import itertools

import numpy as np
import pytest

from mdbench.board import ranking
from mdbench.board.ranking import Excess, standings, tie_groups
from mdbench.tasks import Suite

CELLS = [("mtd-q3-m2", 16), ("mtd-q3-m2", 32), ("mtd-q5-m3", 16)]


@pytest.fixture
def few_draws(monkeypatch):
    """A quarter of the bootstrap's draws, where it is repeated many times."""
    ranking.Resampling._counts.cache_clear()
    monkeypatch.setattr(ranking, "DRAWS", 500)
    yield
    ranking.Resampling._counts.cache_clear()


def rows(values, gold_error=1e-20):
    """Rows of one table from arrays (cells, N), or (cells, R, N)."""
    return {
        name: {
            place: Excess(v if v.ndim == 2 else v[None], gold_error)
            for place, v in zip(CELLS, np.asarray(array, float), strict=True)
        }
        for name, array in values.items()
    }


def noise(rng, n, mean=1.0):
    return rng.gamma(0.5, 2 * mean, size=(len(CELLS), n))  # skew, as excess KL is


# -------------------------------------------------------------------------------------------------------- statistics


def test_scores_are_the_means_that_they_say():
    rng = np.random.default_rng(0)
    values = {"a": noise(rng, 300), "unit": noise(rng, 300, 2.0)}
    by_mean = standings(rows(values), None)
    assert by_mean["a"].score == pytest.approx(values["a"].mean(axis=1).mean(), rel=1e-12)
    complete = rows(values)
    by_ratio = standings(complete, complete["unit"])
    ratios = values["a"].mean(axis=1) / values["unit"].mean(axis=1)
    assert by_ratio["a"].score == pytest.approx(np.exp(np.log(ratios).mean()), rel=1e-12)
    assert by_ratio["unit"].score == pytest.approx(1.0, rel=1e-12)
    low, high = by_ratio["a"].interval
    assert low < by_ratio["a"].score < high


def test_no_cell_drowns_the_others():
    """A cell whose numbers are a thousand times larger has no more weight in the suite."""
    rng = np.random.default_rng(1)
    values = {"a": noise(rng, 200), "unit": noise(rng, 200)}
    scale = np.array([1.0, 1000.0, 1e-3])[:, None]
    plain, scaled = rows(values), rows({name: v * scale for name, v in values.items()})
    assert standings(plain, plain["unit"])["a"].score == pytest.approx(
        standings(scaled, scaled["unit"])["a"].score, rel=1e-9
    )


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize("ratio", [False, True])
def test_equal_rows_are_rarely_told_apart(ratio):
    """Family-wise error of all six pairs of four equally good rows: at most 5%, so at most 5% + 4 standard errors."""
    rng = np.random.default_rng(2)
    wrong, repeats = 0, 150
    for _ in range(repeats):
        common = noise(rng, 200)  # what makes a sequence hard is hard for all
        complete = rows({name: common + noise(rng, 200) for name in "abcd"})
        standing = standings(complete, complete["a"] if ratio else None)
        wrong += any(s.ranks != (1, 4) for s in standing.values())
    assert wrong / repeats <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / repeats)


@pytest.mark.usefixtures("few_draws")
def test_intervals_cover_as_often_as_they_claim():
    rng = np.random.default_rng(3)
    covered, repeats = 0, 200
    for _ in range(repeats):
        low, high = standings(rows({"a": noise(rng, 200)}), None)["a"].interval
        covered += low <= 1.0 <= high
    assert abs(covered / repeats - 0.95) <= 4 * np.sqrt(0.05 * 0.95 / repeats)


@pytest.mark.usefixtures("few_draws")
def test_rank_intervals_hold_the_true_ranks():
    rng = np.random.default_rng(4)
    means = {"a": 1.0, "b": 1.02, "c": 1.5, "d": 5.0}
    wrong, separated = 0, 0
    for _ in range(60):
        standing = standings(rows({name: noise(rng, 150, mean) for name, mean in means.items()}), None)
        truth = {name: k + 1 for k, name in enumerate(means)}
        wrong += any(not s.ranks[0] <= truth[name] <= s.ranks[1] for name, s in standing.items())
        separated += standing["d"].ranks == (4, 4)
    assert wrong / 60 <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 60)
    assert separated > 55


def test_comparisons_are_paired():
    """A small difference on every sequence is seen although the intervals of the means overlap widely."""
    rng = np.random.default_rng(5)
    hard = noise(rng, 300)
    standing = standings(rows({"a": hard, "b": hard * 1.02}), None)
    assert standing["a"].interval[1] > standing["b"].interval[0]
    assert (standing["a"].ranks, standing["b"].ranks) == ((1, 1), (2, 2))
    independent = standings(rows({"a": hard, "b": noise(rng, 300) * 1.02}), None)
    assert independent["a"].ranks == (1, 2)


def test_training_seeds_are_noise_too():
    """Three seeds far apart: what sequences alone would separate is a tie."""
    rng = np.random.default_rng(6)
    hard = noise(rng, 400)
    seeds = np.stack([hard * 0.5, hard * 1.0, hard * 1.6], axis=1)  # (cells, R, N), mean 1.03
    assert standings(rows({"a": hard, "b": seeds}), None)["a"].ranks == (1, 2)
    assert standings(rows({"a": hard, "b": seeds.mean(axis=1)}), None)["a"].ranks == (1, 1)


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize("ratio", [False, True])
def test_training_seeds_are_few_and_no_better_than_they_are(ratio):
    """Three seeds that scatter about the other row's mean are told apart from it in at most 5% of trainings."""
    rng = np.random.default_rng(10)
    hard, wrong, repeats = noise(rng, 300), 0, 200
    for _ in range(repeats):
        scale = rng.normal(1.0, 0.05, (len(CELLS), 3, 1))  # each training ends a little elsewhere
        complete = rows({"a": hard, "b": hard[:, None] * scale})
        wrong += standings(complete, complete["a"] if ratio else None)["a"].ranks != (1, 2)
    assert wrong / repeats <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / repeats)


def test_one_sequence_and_rounding_separate_nothing():
    rng = np.random.default_rng(11)
    one = noise(rng, 1)
    assert standings(rows({"a": one, "b": one * 2}), None)["a"].ranks == (1, 2)
    many = noise(rng, 50)
    complete = rows({"a": many, "b": many * (1 + 1e-14)})
    for unit in (None, complete["a"]):
        assert standings(complete, unit)["b"].ranks == (1, 2)
    few = standings(rows({"a": noise(rng, 400), "b": noise(rng, 2)}), None)["b"]
    assert few.interval[0] > 0


def test_a_row_with_fewer_sequences_is_compared_on_those():
    """On its own few sequences it is better on each, though these are hard ones and its mean is higher."""
    rng = np.random.default_rng(7)
    values = noise(rng, 500)
    values[:, :100] *= 5
    standing = standings(rows({"all": values, "few": values[:, :100] * 0.9}), None)
    assert standing["few"].score > standing["all"].score
    assert standing["few"].ranks == (1, 1)


def test_infinite_scores_come_last_and_tie():
    rng = np.random.default_rng(8)
    broken = noise(rng, 50)
    broken[1, 7] = np.inf
    complete = rows({"a": noise(rng, 50), "x": broken, "y": broken * 2})
    for unit in (None, complete["a"]):
        standing = standings(complete, unit)
        assert standing["a"].ranks == (1, 1)
        assert standing["x"].ranks == standing["y"].ranks == (2, 3)
        assert standing["x"].score == np.inf
        assert standing["x"].interval is None
        assert set(standing["x"].groups) & set(standing["y"].groups)


def test_what_is_at_gold_ties():
    rng = np.random.default_rng(9)
    tiny = noise(rng, 50) * 1e-22
    complete = rows({"a": tiny, "b": tiny * 3, "unit": noise(rng, 50)}, gold_error=1e-18)
    complete["b"] = {place: Excess(e.values, 3e-18) for place, e in complete["b"].items()}  # known less well
    for unit in (None, complete["unit"]):
        standing = standings(complete, unit)
        assert standing["a"].ranks == standing["b"].ranks == (1, 2)
        assert standing["unit"].ranks == (3, 3)


def test_what_is_at_gold_stands_in_the_order_of_names():
    # Rounding errors, of the gold too, differ between processors; the order of a board must not.
    ones = np.ones((len(CELLS), 50))
    for a, b in ((1e-30, 3e-30), (3e-30, 1e-30)):
        all_rows = {name: rows({name: ones * x}, gold_error=x)[name] for name, x in (("b", b), ("a", a))}
        all_rows |= rows({"c": ones * 1e-15, "unit": ones})
        found = standings(all_rows, all_rows["unit"] if a < b else None)
        assert sorted(found, key=lambda key: found[key].position) == ["a", "b", "c", "unit"]


@pytest.mark.parametrize("k", [1, 2, 3, 5, 7])
def test_rows_share_a_letter_just_if_they_are_not_told_apart(k):
    rng = np.random.default_rng(k)
    for density in (0.0, 0.2, 0.5, 0.8, 1.0):
        for _ in range(20):
            apart = np.triu(rng.random((k, k)) < density, 1)
            letters = tie_groups(apart | apart.T)
            for i, j in itertools.combinations(range(k), 2):
                assert bool(set(letters[i]) & set(letters[j])) == (not apart[i, j])
            assert all(letters)
    chain = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], bool)
    assert tie_groups(chain) == [("a",), ("a", "b"), ("b",)]


def test_letters_go_on_after_z():
    assert [ranking._letters(n) for n in (0, 25, 26, 27, 701, 702)] == ["a", "z", "aa", "ab", "zz", "aaa"]


# ------------------------------------------------------------------------- seeds that are good or bad at all lengths


def trained(rng, hard, sd, mean=1.0, n_seeds=3):
    """A row whose seed k is a factor off at every length: longer contexts start from the weights of shorter ones."""
    factors = mean * np.exp(rng.normal(0.0, sd, n_seeds) - sd**2 / 2)
    own = rng.gamma(0.5, 2.0, (len(hard), n_seeds, hard.shape[1]))
    return factors[:, None] * (0.8 * hard[:, None] + 0.2 * own)


@pytest.mark.usefixtures("few_draws")
def test_seeds_are_one_draw_for_all_lengths_of_a_task(monkeypatch):
    """Drawn anew at each length, equal rows were told apart in 40% of cases, and intervals covered in 62%."""
    monkeypatch.setitem(globals(), "CELLS", [("mtd-q3-m2", length) for length in (16, 32, 64, 128)])
    rng = np.random.default_rng(12)
    repeats, wrong, covered = 120, 0, 0
    for _ in range(repeats):
        hard = rng.gamma(0.5, 2.0, (4, 200))
        standing = standings(rows({name: trained(rng, hard, 0.3) for name in "abcd"}), None)
        wrong += any(s.ranks != (1, 4) for s in standing.values())
        low, high = standing["a"].interval
        covered += low <= 1.0 <= high
    assert wrong / repeats <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)
    assert covered / repeats >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / repeats)


@pytest.mark.usefixtures("few_draws")
def test_planned_comparisons_find_what_is_there_and_leave_the_rest_undecided(monkeypatch):
    monkeypatch.setitem(globals(), "CELLS", [("mtd-q3-m2", length) for length in (16, 32, 64, 128)])
    suite = Suite("s", ("mtd-q3-m2",), (16, 32, 64, 128), planned=(("a", "b"), ("a", "c"), ("a", "d"), ("a", "nobody")))
    rng = np.random.default_rng(13)
    found, repeats = [], 40
    for _ in range(repeats):
        hard = rng.gamma(0.5, 2.0, (4, 200))
        of = {"a": trained(rng, hard, 0.03, 0.8), "b": trained(rng, hard, 0.03), "c": trained(rng, hard, 0.03, 0.8)}
        of["d"] = trained(rng, hard, 0.6, 0.8)
        planned = ranking.planned_comparisons(suite, {label: (row, False) for label, row in rows(of).items()})
        found.append([p.verdict for p in planned])
    by_pair = list(zip(*found, strict=True))
    assert len(by_pair) == 3  # what is not there is not compared
    assert by_pair[0].count("better") >= 0.8 * repeats  # 20%, by three seeds that are 3% apart
    assert by_pair[1].count("equal") >= 0.8 * repeats
    assert by_pair[2].count("undecided") >= 0.8 * repeats


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize("numbers", [(4, 4, 3, 3), (3, 3, 1, 1)], ids=str)
def test_seeds_that_some_cells_lack_matter_there_too(numbers):
    """Fewer seeds at longer contexts of a task, or one seed in another task; the truth of every row is 1."""
    tasks = ("mtd-q3-m2",) * 4 if 1 not in numbers else ("mtd-q3-m2",) * 2 + ("mtd-q5-m3",) * 2
    places = list(zip(tasks, (16, 32, 64, 128), strict=True))
    rng = np.random.default_rng(14)
    repeats, wrong, covered = 100, 0, 0
    for _ in range(repeats):
        hard = rng.gamma(0.5, 2.0, (4, 200))
        cells = {}
        for name in "ab":
            by_task = {task: trained(rng, hard, 0.3, n_seeds=max(numbers)) for task in set(tasks)}
            cells[name] = {place: Excess(by_task[place[0]][k, : numbers[k]], 1e-20) for k, place in enumerate(places)}
        unit = {place: Excess(hard[k][None], 1e-20) for k, place in enumerate(places)}
        standing = standings(cells | {"unit": unit}, unit)
        wrong += not set(standing["a"].groups) & set(standing["b"].groups)
        low, high = standing["a"].interval
        covered += low <= 1.0 <= high
    assert wrong / repeats <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)
    assert covered / repeats >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / repeats)
