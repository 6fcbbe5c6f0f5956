"""Which authority a request may name, in whichever version it came."""

import re
from typing import Final

# RFC 3986 3.2: host and port, no user information, no port without a host (RFC 9110 4.2.1),
# nothing that a log or an HTTP/1 line could be split with.
AUTHORITY: Final = re.compile(rb"(?:(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]+)(?::\d{0,5})?)?")
