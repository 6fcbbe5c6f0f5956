"""Independent HTTP/1.1 parsers, all asked the same question: which requests are in these bytes?

A reader takes the whole of what came over one connection. Programs of other languages get
it by their standard input; reader.go says how.
"""
