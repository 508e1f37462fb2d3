"""Collection errors: labels against the baseline and groups by cause."""

from __future__ import annotations

from sterling.packs.ci.collect import explain_groups, group_by_cause, label_of
from sterling.packs.ci.facts import Collector


def broken(cause: str, signature: str = "s") -> Collector:
    return Collector(signature, cause, "")


def test_labels_tell_new_changed_and_old_breakage_apart() -> None:
    base = {"a.py": broken("c", "s1"), "b.py": broken("c", ""), "c.py": broken("c", "s1")}

    assert label_of("a.py", broken("c", "s1"), base) == "debt"
    assert label_of("c.py", broken("c", "s2"), base) == "changed"
    assert label_of("new.py", broken("c", "s1"), base) == "new"
    assert label_of("b.py", broken("c", ""), base) == "changed", "two unknown signatures are not equal ones"


def test_a_missing_module_takes_in_what_is_missing_below_it_and_comes_first() -> None:
    collectors = {
        "t1.py": broken("missing-module shop.db.core"),
        "t2.py": broken("missing-module shop"),
        "t3.py": broken("missing-module shop.db"),
        "t4.py": broken("missing-module other.deep"),
        "t5.py": broken("SyntaxError in x.py: def"),
    }

    groups = group_by_cause(collectors)

    assert [(group.cause, group.names) for group in groups] == [
        ("missing-module shop", ("t1.py", "t2.py", "t3.py")),
        ("missing-module other.deep", ("t4.py",)),
        ("SyntaxError in x.py: def", ("t5.py",)),
    ]
    assert explain_groups(groups) == "5 files could not be loaded; missing-module shop explains 3 of them."


def test_modules_that_only_look_alike_are_not_merged() -> None:
    groups = group_by_cause(
        {"a.py": broken("missing-module shop"), "b.py": broken("missing-module shopping.x")}
    )

    assert len(groups) == 2


def test_nothing_broken_needs_no_words() -> None:
    assert explain_groups(group_by_cause({})) == ""
