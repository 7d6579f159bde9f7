"""What the parametrisation of other tests counts on."""

from itertools import combinations, product

from covering import covering


def test_every_pair_is_met_by_few_of_the_product():
    axes = ["ab", range(3), "wxyz", (True, False), range(6)]
    rows = covering(*axes)
    for i, j in combinations(range(len(axes)), 2):
        assert {(row[i], row[j]) for row in rows} == set(product(axes[i], axes[j]))
    assert len(rows) == len(set(rows)) <= 30  # of 288; the two longest axes alone make 24
