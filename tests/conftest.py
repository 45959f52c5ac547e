"""In which order the tests run."""


def pytest_collection_modifyitems(items):
    """The longest first: with several workers nobody shall wait for it at the end."""
    items.sort(key=lambda item: "chaos/test_chaos.py" not in item.nodeid)
