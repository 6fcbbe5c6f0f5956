"""HTTP/1.1 byte for byte: hostile clients and servers, and what other parsers read of what passes."""
