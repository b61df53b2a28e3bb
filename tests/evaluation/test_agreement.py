import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, r2_score

from latentline.core.attributes import Column
from latentline.evaluation.agreement import agreement, agreement_floor, confusion_counts

HAIR = Column("hair", "categorical", ("black", "red", "none"))
SMILING = Column("smiling", "binary")
AGE = Column("age", "continuous", mean=40.0, std=12.5)


@pytest.mark.parametrize("column", [HAIR, SMILING], ids=["categorical", "binary"])
def test_decisions_agree_as_often_as_scikit_learn_counts(column):
    decided, known = (torch.randint(0, max(column.outputs, 2), (97,)).float() for _ in range(2))
    assert agreement(column, decided, known) == pytest.approx(accuracy_score(known, decided))
    assert (agreement(column, known, known), agreement(column, known + 1, known)) == (1, 0)


@pytest.mark.parametrize("error", [0.0, 1.0, 10.0, 100.0])
def test_numbers_agree_by_scikit_learns_coefficient_of_determination(error):
    known = 2000 + 12.5 * torch.randn(97, dtype=torch.float64)  # far from 0, as years are
    decided = known + error * torch.randn(97)
    assert agreement(AGE, decided.float(), known.float()) == pytest.approx(r2_score(known, decided), abs=1e-4, rel=1e-4)


@pytest.mark.parametrize("decided", [[7.0, 7.0, 7.0], [7.0, 8.0, 6.0]], ids=["right", "wrong"])
def test_of_known_numbers_that_are_all_the_same_scikit_learn_says_1_or_0(decided):
    known = torch.full((3,), 7.0)
    assert agreement(AGE, torch.tensor(decided), known) == r2_score(known, decided)


def test_the_floor_is_what_the_best_constant_answer_reaches():
    known = torch.tensor([0.0, 2.0, 2.0, 1.0, 2.0])
    constants = [agreement(HAIR, torch.full((5,), float(kind)), known) for kind in range(3)]
    assert agreement_floor(HAIR, known) == max(constants) == pytest.approx(0.6)
    ages = torch.randn(20)
    assert agreement_floor(AGE, ages) == pytest.approx(agreement(AGE, ages.mean().expand(20), ages), abs=1e-6)


@pytest.mark.parametrize("present", [3, 2], ids=["every class", "one that never occurs"])
def test_confusions_are_counted_as_scikit_learn_does(present):
    decided, known = (torch.randint(0, present, (97,)).float() for _ in range(2))
    assert confusion_counts(HAIR, decided, known).tolist() == confusion_matrix(known, decided, labels=range(3)).tolist()
