"""Errors: four lines at most, and the exit codes of the documentation."""

import pickle

import pytest

from bigstep import errors
from bigstep.errors import BigstepError, NoVerdict

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BigstepError)]


def test_a_message_says_what_got_expected_and_what_to_do():
    error = BigstepError("it broke", got=0, expected="1", do="mend it")
    assert str(error) == "it broke\n  got:      0\n  expected: 1\n  to do:    mend it"
    assert str(BigstepError("it broke")) == "it broke"


@pytest.mark.parametrize("kind", KINDS)
def test_exit_codes(kind):
    assert kind("x").exit_code == (1 if kind is NoVerdict else 2)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_travels_between_processes(kind):
    """A worker's error reaches the parent pickled; it must come out as the same mistake of the user."""
    error = kind("weights are not finite", got="NaN", do="train again")
    there = pickle.loads(pickle.dumps(error))
    assert type(there) is kind and str(there) == str(error)
    assert (there.got, there.do) == ("NaN", "train again")
