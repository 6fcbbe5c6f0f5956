"""Any bytes: they are not "bad". A target that fails, to see that a failure is noticed."""

SEEDS = (b"good",)
WORDS = (b"bad",)


def check(data: bytes) -> None:
    """The bug."""
    assert data != b"bad"
