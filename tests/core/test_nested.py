"""Nested dictionaries by dotted name."""

from latentline.core.nested import by_dotted_name


def test_leaves_have_dotted_names_in_their_order():
    content = {"seed": 0, "data": {"name": "digits", "splits": {"val": 0.1}, "attributes": {}}, "list": [{"a": 1}]}
    assert list(by_dotted_name(content).items()) == [
        ("seed", 0),
        ("data.name", "digits"),
        ("data.splits.val", 0.1),
        ("data.attributes", {}),
        ("list", [{"a": 1}]),
    ]
    assert by_dotted_name({}) == {}
