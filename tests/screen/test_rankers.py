import numpy as np

from crysjepa.screen.rankers import Random, Score, ranks


def test_ranks_put_the_lowest_first_and_the_unscored_last():
    scores = {"b": Score(0.0), "c": Score(None, reason="no reference"), "d": Score(-1.0), "a": Score(0.0)}
    assert ranks(scores) == {"d": 1, "a": 2, "b": 3, "c": 4}


def test_random_depends_on_seed_and_id_alone(salts):
    first = Random(1).score(salts)
    turned = Random(1).score(salts[::-1])
    assert first == {i: turned[i] for i in salts.ids}
    assert first != Random(2).score(salts)
    values = [s.value for s in Random(0).score(salts.with_ids([str(i) for i in range(7)])).values()]
    assert all(v is not None and 0 <= v < 1 for v in values) and len(set(values)) == 7
    many = [Random(0).score(salts[:1].with_ids([str(i)]))[str(i)].value for i in range(500)]
    assert abs(np.mean(many) - 0.5) < 0.05
