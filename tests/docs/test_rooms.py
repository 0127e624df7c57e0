"""How files lean on each other, counted with what only a type checker sees."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp


def test_no_file_needs_another_that_needs_it() -> None:
    graph = grimp.build_graph("forebay", exclude_type_checking_imports=False)
    needs = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None
