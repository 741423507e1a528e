import pytest

from . import mutations


@pytest.mark.slow
def test_every_defect_is_caught():
    assert not mutations.check()


@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda m: f"{m.test} {m.file}")
def test_a_mutation_has_one_place(mutation, tmp_path):
    mutations.mutated(mutation)
    assert mutation.test in mutations.tests()
