import pytest

from shelf.isbn import is_isbn


@pytest.mark.parametrize("text", ["978-0-306-40615-7", "0-306-40615-2", "0-8044-2957-X"])
def test_right_check_digits_are_accepted(text):
    assert is_isbn(text)


@pytest.mark.parametrize("text", ["978-0-306-40615-8", "not a number"])
def test_anything_else_is_refused(text):
    assert not is_isbn(text)
