"""Dates in header fields (RFC 9110 5.6.7)."""

import calendar
from email.utils import parsedate


def parse_date(value: bytes) -> int | None:
    """Seconds since 1970 of an IMF-fixdate, or of the two older forms; None when it is no date."""
    try:
        # Always GMT, whatever a sender wrote there: a zone of its own is not allowed.
        parts = parsedate(value.decode("ascii"))
        return calendar.timegm(parts) if parts is not None else None
    except (ValueError, OverflowError, IndexError, TypeError):
        return None  # parsedate is lenient: a 13th month may come out, or a year of ten digits
