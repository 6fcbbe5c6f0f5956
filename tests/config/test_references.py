"""What no section can tell alone."""

from tests.config.loading import lines_of, load

TWO = "clusters: {users: {endpoints: ['a:1']}, prices: {endpoints: ['b:1']}}\n"


def test_a_route_to_nowhere() -> None:
    text = TWO + "listeners: {o: {bind: 'a:1', routes: [{match: {path: /a}, to: user}, {to: {users: 1, zzz: 2}}]}}"
    assert lines_of(text) == [
        "f.yaml:2:63: listeners.o.routes[0].to: no cluster 'user' (did you mean users?)",
        "f.yaml:2:86: listeners.o.routes[1].to.zzz: no cluster 'zzz' (known: users, prices)",
    ]


def test_ports_taken_twice() -> None:
    text = """\
        admin: {bind: 127.0.0.1:9}
        clusters: {u: {endpoints: ['a:1'], listen: 127.0.0.1:9}, v: {endpoints: ['a:1'], listen: 'unix:/x'}}
        listeners:
          a: {bind: '0.0.0.0:9', routes: [{to: u}]}
          b: {bind: 'unix:/x', routes: [{to: u}]}
          c: {bind: '127.0.0.1:0', routes: [{to: u}]}
          d: {bind: '127.0.0.1:0', routes: [{to: u}]}
    """
    assert lines_of(text) == [
        "f.yaml:2:44: clusters.u.listen: 127.0.0.1:9 is taken by admin.bind (line 1, column 15)",
        "f.yaml:4:13: listeners.a.bind: 0.0.0.0:9 is taken by admin.bind (line 1, column 15)",
        "f.yaml:5:13: listeners.b.bind: unix:/x is taken by clusters.v.listen (line 2, column 90)",
    ]


def test_the_default_admin_port_counts() -> None:
    (line,) = lines_of("clusters: {u: {endpoints: ['a:1'], listen: '127.0.0.1:15000'}}")
    assert "is taken by admin.bind" in line


def test_routes_that_never_match() -> None:
    text = TWO + (
        "listeners:\n"
        "  o:\n"
        "    bind: a:1\n"
        "    routes:\n"
        "      - {match: {path: /a}, to: users}\n"
        "      - {match: {path: /a}, to: prices}\n"
        "      - to: users\n"
        "      - {match: {path: /b}, to: users}\n"
    )
    assert lines_of(text) == [
        "f.yaml:7:9: listeners.o.routes[1]: can never match: listeners.o.routes[0] at line 6, column 9 takes the same",
        "f.yaml:9:9: listeners.o.routes[3]: can never match: listeners.o.routes[2] at line 8, column 9 "
        "takes everything (move it up)",
    ]


def test_route_names_are_label_values_and_therefore_unique() -> None:
    text = TWO + (
        "listeners:\n"
        "  o: {bind: 'a:1', routes: [{name: x, to: users}]}\n"
        "  p: {bind: 'a:2', routes: [{name: x, to: users}]}\n"
    )
    assert lines_of(text) == [
        "f.yaml:4:36: listeners.p.routes[0].name: listeners.o.routes[0].name is 'x' too (line 3, column 36)"
    ]


def test_a_clusters_listener_needs_its_name() -> None:
    text = "clusters: {u: {endpoints: ['a:1'], listen: 'a:1'}}\nlisteners: {u: {bind: 'a:2', routes: [{to: u}]}}"
    (line,) = lines_of(text)
    assert "makes a listener 'u'" in line


def test_a_backoff_that_fits_neither_alone() -> None:
    text = """\
        clusters: {u: {endpoints: ['a:1'], retry: {backoff: {base: 100ms}}}}
        listeners: {o: {bind: 'a:1', routes: [{to: u, retry: {backoff: {max: 50ms}}}]}}
    """
    (line,) = lines_of(text)
    assert line.startswith("f.yaml:2:64: listeners.o.routes[0].retry.backoff: max is shorter than base")


def test_what_has_the_wrong_shape_is_no_obstacle() -> None:
    lines = lines_of(
        "clusters: [1]\nlisteners: {o: 3, p: {bind: 4, routes: {}}, q: {bind: 'a:1', routes: [5, {to: 6}]}}"
    )
    assert [line.split(": ", 2)[1] for line in lines] == [
        "clusters", "listeners.o", "listeners.p.bind", "listeners.p.routes",
        "listeners.q.routes[0]", "listeners.q.routes[1].to",
    ]  # fmt: skip


def test_the_same_match_with_other_conditions_is_another_route() -> None:
    spec = load(TWO + "listeners: {o: {bind: 'a:1', routes: [{match: {path: /a}, to: users}, {to: prices}]}}")
    assert len(spec.listeners["o"].routes) == 2
