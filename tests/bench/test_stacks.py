"""How sampled stacks become shares."""

from __future__ import annotations

from bench.stacks import shares


def test_time_within_counts_a_recursive_function_once_and_own_time_only_the_innermost():
    table = shares("main (a.py:1);walk (b.py:2);walk (b.py:9) 3\nmain (a.py:1) 1\n")

    own, within = table.split("with what it calls")
    assert "75.0%  walk (b.py)" in own
    assert "25.0%  main (a.py)" in own
    assert "100.0%  main (a.py)" in within
    assert "75.0%  walk (b.py)" in within


def test_no_samples_are_said_to_be_none():
    assert shares("") == "no samples\n"
