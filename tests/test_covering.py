"""Properties on which the parametrisation of other tests relies."""

from itertools import combinations, product

from covering import covering, starting_with


def test_every_pair_is_met_by_few_of_the_product():
    axes = ["ab", range(3), "wxyz", (True, False), range(6)]
    rows = covering(*axes)
    for i, j in combinations(range(len(axes)), 2):
        assert {(row[i], row[j]) for row in rows} == set(product(axes[i], axes[j]))
    assert len(rows) == len(set(rows)) <= 30  # of 288; the two longest axes alone make 24
    found = {x: starting_with(rows, *x) for x in product("ab", range(3))}
    assert all(found.values()) and sum(map(len, found.values())) == len(rows)
    assert all((*x, *row) in rows for x in found for row in found[x])
