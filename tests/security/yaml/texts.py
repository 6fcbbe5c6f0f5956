"""Hostile YAML: by name, the text and what its first error says."""

from typing import Final

_CLUSTER: Final = "clusters: {u: {endpoints: ['a:1']}}\n"
_NEARLY: Final = (1 << 20) - 200


def _filled(unit: str, head: str = "") -> str:
    """As much of `unit` as a file may hold."""
    return head + unit * ((_NEARLY - len(head)) // len(unit.encode()))


def _laughs(levels: int, each: int, kind: str = "[%s]") -> str:
    """Billion laughs: each anchor holds the one before several times."""
    lines = ["a0: &a0 lol"]
    for level in range(1, levels):
        inside = ", ".join(f"*a{level - 1}" if kind[0] == "[" else f"k{n}: *a{level - 1}" for n in range(each))
        lines.append(f"a{level}: &a{level} {kind % inside}")
    return "\n".join(lines)


TEXTS: Final[dict[str, tuple[str, str]]] = {
    "billion laughs": (_laughs(10, 10), "aliases expanded"),
    "billion laughs of mappings": (_laughs(10, 10, "{%s}"), "aliases expanded"),
    "two laughs, deep": (_laughs(64, 2), "aliases expanded"),
    "quadratic blow-up": ("a: &a [" + "x, " * 2000 + "]\nb: [" + "*a, " * 2000 + "]", "aliases expanded"),
    "an alias of itself": ("a: &a [*a]", "holds itself"),
    "an alias of itself, below": ("a: &a {b: {c: [1, *a]}}", "holds itself"),
    "aliases, deep": ("\n".join(["- &a0 [1]", *(f"- &a{n} [*a{n - 1}]" for n in range(1, 64))]), "deep"),
    "nested lists": (_filled("["), "nested more than 32 deep"),
    "nested mappings": (_filled("{a: "), "nested more than 32 deep"),
    "nested blocks": (_filled("- "), "nested more than 32 deep"),
    "keys that are lists": (_filled("? ["), "a key must be text"),
    "too many values": ("a: [" + "1," * 150_000 + "]", "more than 100000 values"),
    "equal keys": (_filled("a: 1\n"), "stands twice"),
    "equal keys in one line": ("{a: 1, a: 2}", "stands twice"),
    "equal keys, spelled differently": ('{a: 1, "\\x61": 2}', "stands twice"),
    "a merge key": ("a: &a {}\n<<: *a", "merge keys"),
    "a tag of Python's": ("a: !!python/object/apply:os.system ['true']", "tags"),
    "a tag on a mapping": ("a: !!python/object:x.Y {}", "tags"),
    "a tag on a list": ("!!set [a]", "tags"),
    "a tag of one's own": ("a: !include /etc/passwd", "tags"),
    "a verbatim tag": ("a: !<tag:yaml.org,2002:str> x", "tags"),
    "a tag by a directive": ("%TAG ! tag:yaml.org,2002:python/\n---\na: !object x", "tags"),
    "binary": ("a: !!binary aGVsbG8=", "tags"),
    "a tag on a key": ("!!str a: 1", "tags"),
    "two documents": (f"{_CLUSTER}---\n{_CLUSTER}", "a second YAML document"),
    "thousands of documents": (_filled("---\n"), "a second YAML document"),
    "an unknown directive": ("%YAML 3.0\n---\na: 1", "YAML syntax"),
    "NUL": ("service: a\x00b", "cannot stand in YAML"),
    "a control byte": ("service: a\x07b", "cannot stand in YAML"),
    "a surrogate by escape": ('service: "\\ud800"', "YAML syntax"),
    "beyond Unicode by escape": ('service: "\\U00110000"', "YAML syntax"),
    "a lone surrogate": ("service: \ud800", "is not UTF-8"),
    "a scalar of a mebibyte": ("service: " + "x" * _NEARLY, "is longer than 253"),
    "a quoted scalar of a mebibyte": ('shutdown: "' + "9" * _NEARLY + '"', "is no duration"),
    "a key of half a mebibyte": ("x" * 500_000 + ": 1\n", "YAML syntax"),
    "a number of a mebibyte": (f"{_CLUSTER}shutdown: {'9' * 1_000_000}", "is no duration"),
    "a fraction of a mebibyte": (f"{_CLUSTER}shutdown: 1.{'9' * 1_000_000}", "is no duration"),
    "an exponent": ("clusters: {u: {endpoints: ['a:1'], retry: {budget: {ratio: 1e999}}}}", "must be a number"),
    "infinity": ("clusters: {u: {endpoints: ['a:1'], retry: {budget: {ratio: .inf}}}}", "must be a number"),
    "a number beyond 64 bits": (
        "clusters: {u: {endpoints: ['a:1'], retry: {attempts: 99999999999999999999}}}",
        "must be a whole number",
    ),
    "a hexadecimal number": ("clusters: {u: {endpoints: ['a:1'], retry: {attempts: 0x2}}}", "must be a whole number"),
    "a size beyond all memory": ("clusters: {u: {endpoints: ['a:1'], retry: {replay: 9999999GiB}}}", "more than any"),
    "unknown keys": ("\n".join(f"k{n}: 1" for n in range(40_000)), "unknown"),
    "clusters that are none": ("clusters:\n" + "\n".join(f"  k{n}: 1" for n in range(40_000)), "must be a mapping"),
    "routes to nowhere": (
        "clusters: {"
        + ", ".join(f"c{n}: {{endpoints: ['a:1']}}" for n in range(2000))
        + "}\nlisteners: {o: {bind: 'a:1', routes: ["
        + "{to: cx}, " * 5_000
        + "]}}",
        "no cluster 'cx'",
    ),
    "one address, again and again": (
        "clusters: {" + ", ".join(f"c{n}: {{endpoints: ['a:1'], listen: 'a:1'}}" for n in range(5_000)) + "}",
        "is taken by",
    ),
    "bad addresses": ("clusters: {u: {endpoints: [" + "a," * 20_000 + "]}}", "an address is host:port"),
    "a regular expression that is too long": (
        "clusters: {u: {endpoints: ['a:1']}}\n"
        "listeners: {o: {bind: 'a:1', routes: [{to: u, match: {regex: '" + "(a|b)*" * 100_000 + "'}}]}}",
        "a regular expression of 600000 characters",
    ),
    "variables without end": (_filled("${A}", "service: "), "variables fill in more than 4 MiB"),
    "variables in many places": (_filled("- ${A}\n"), "variables fill in more than 4 MiB"),
    "references without end": (_filled("${"), "is no variable"),
    "dollars": (_filled("$", "service: "), "is longer than 253"),
    "quotes": (_filled("'"), "must be a mapping"),
    "tabs": (_filled("\t"), "YAML syntax"),
    "colons": (_filled(": "), "YAML syntax"),
    "too large": ("#" * ((1 << 20) + 1), "is larger than 1 MiB"),
    "nothing but comments": (_filled("#\n"), "is empty"),
}
