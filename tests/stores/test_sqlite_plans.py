"""Every statement that runs per message finds its rows by an index in its own order: it never sorts, counts or walks what only waits."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING

import apsw
import pytest

from forebay.stores.sqlite.connection import connect
from forebay.stores.sqlite.session import NAME, statements

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOT = {
    "publish_next": ["SEARCH e"],
    "limit_count": [
        "SEARCH entry USING COVERING INDEX entry_ready (queue=?)",
        "SEARCH entry USING COVERING INDEX entry_timed (queue=?)",
        "SEARCH entry USING COVERING INDEX entry_blocked (queue=?)",
    ],
    "limit_known": [
        "SEARCH e USING COVERING INDEX entry_id (id=?)",
        "SEARCH e USING COVERING INDEX entry_unique (queue=? AND unique_key=?)",
    ],
    "limit_drain": [
        "SEARCH entry USING COVERING INDEX entry_finished (queue=? AND state=? AND finished>?)",
        "SEARCH entry USING COVERING INDEX entry_over (queue=? AND state=? AND finished>?)",
    ],
    "limit_expire": ["SEARCH entry USING COVERING INDEX entry_late_here (queue=? AND state=? AND expires<?)"],
    "publish_plain": ["SEARCH message USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"],
    "publish_entries": ["SCAN jsonb_each"],
    "claim_look": [
        "SEARCH lease USING COVERING INDEX sqlite_autoindex_lease_1 (token=?)",
        "SEARCH paused USING PRIMARY KEY (queue=?)",
        "SEARCH entry USING COVERING INDEX entry_ready (queue=?)",
        "SEARCH entry USING COVERING INDEX entry_late_here (queue=? AND state=? AND expires<?)",
        "SEARCH entry USING COVERING INDEX entry_timed (queue=?)",
    ],
    "claim_promote": ["SEARCH entry USING COVERING INDEX entry_timed (queue=? AND due<?)"],
    "claim_expire": ["SEARCH entry USING COVERING INDEX entry_late_here (queue=? AND state=? AND expires<?)"],
    "claim_front": [
        "SEARCH e USING INDEX entry_ready (queue=?)",
        "SEARCH m USING INTEGER PRIMARY KEY (rowid=?)",
    ],
    "claim_known": ["SEARCH e USING INDEX entry_nameless (queue=? AND name=?)"],
    "claim_tell_known": ["entry_nameless (queue=? AND name=?)"],
    "claim_date": [
        "SEARCH entry USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH k USING PRIMARY KEY (queue=? AND name=?)",
    ],
    "claim_take": ["SEARCH entry USING INTEGER PRIMARY KEY (rowid=?)"],
    "settle_try": [
        "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH l USING INDEX sqlite_autoindex_lease_1 (token=?)",
    ],
    "settle_try_done": ["SEARCH e USING INTEGER PRIMARY KEY (rowid=?)"],
    "settle_done": ["SEARCH entry USING INTEGER PRIMARY KEY (rowid=?)"],
    "settle_effects": ["SEARCH entry USING INTEGER PRIMARY KEY (rowid=?)"],
    "settle_find": ["SEARCH entry USING COVERING INDEX entry_id (id=?)"],
    "lease_less": ["SEARCH lease USING INDEX sqlite_autoindex_lease_1 (token=?)"],
    "lease_empty": ["SEARCH lease USING INDEX sqlite_autoindex_lease_1 (token=?)"],
    "event_awaited": ["SEARCH step USING INDEX step_wait (topic>?)", "SCAN arrival"],
    "event_meet": [
        "SEARCH step USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH s USING INDEX step_wait (topic=? AND key=? AND due>?)",
    ],
    "arrival_keep": [
        "SEARCH step USING INDEX step_wait (topic=? AND key=? AND due>?)",
        "SCALAR SUBQUERY",
        "SEARCH step",
    ],
    "event_wake": ["SEARCH entry USING INTEGER PRIMARY KEY (rowid=?)"],
    "event_settle": [
        "SEARCH entry USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH s USING INDEX step_name (entry=?)",
    ],
    "steps_fence": ["SEARCH e USING INTEGER PRIMARY KEY (rowid=?)"],
    "extend_match": ["SEARCH e USING INTEGER PRIMARY KEY (rowid=?)"],
    "extend": ["SEARCH lease USING COVERING INDEX sqlite_autoindex_lease_1 (token=?)"],
    "extend_unnamed": [
        "SEARCH l USING INDEX sqlite_autoindex_lease_1 (token=?)",
        "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)",
    ],
    "sweep_look": [
        "SEARCH lease USING COVERING INDEX lease_until",
        "SEARCH hold USING COVERING INDEX hold_until",
        "SEARCH entry USING INDEX entry_late (expires<?)",
        "SEARCH e USING COVERING INDEX entry_finished (queue=? AND state=? AND finished<?)",
        "SEARCH flow USING COVERING INDEX flow_over (state=? AND finished<?)",
    ],
    "sweep_overdue": [
        "SEARCH l USING INDEX lease_until (until<?)",
        "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)",
    ],
    "sweep_expire": ["SEARCH entry USING INDEX entry_late (expires<?)"],
    "sweep_old": ["SEARCH entry USING COVERING INDEX entry_finished (queue=? AND state=? AND finished>?)"],
    **{
        f"forget_range_{kind}": [f"SEARCH {table} USING"]
        for kind, table in {
            "messages": "message",
            "tries": "try",
            "results": "result",
            "progress": "progress",
            "failures": "failure",
            "steps": "step",
            "holds": "hold",
            "companies": "company",
            "entries": "entry",
        }.items()
    },
    **{
        f"{pick}{way}": [f"SEARCH {by}"]
        for way in ("", "_newest")
        for pick, by in {
            "pick": "e USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
            "pick_ended": "e USING INDEX entry_ended (seq>? AND seq<?)",
            "pick_key": "e USING INDEX entry_key (key=? AND rowid>? AND rowid<?)",
            "pick_flow": "e USING INDEX entry_flow (flow=? AND rowid>? AND rowid<?)",
            "pick_error": "f USING COVERING INDEX failure_error (error=? AND rowid>? AND rowid<?)",
            "pick_fingerprint": "f USING COVERING INDEX failure_fingerprint (fingerprint=? AND rowid>? AND rowid<?)",
        }.items()
    },
    "publish_refused": [
        "SEARCH h USING PRIMARY KEY (queue=? AND key=?)",
        "SEARCH e USING COVERING INDEX entry_id (id=?)",
    ],
    "hold_before": [
        "SEARCH e USING COVERING INDEX entry_id (id=?)",
        "SEARCH h USING PRIMARY KEY (queue=? AND key=?)",
    ],
    "hold_holder": [
        "SEARCH e USING INDEX entry_unique (queue=? AND unique_key=?)",
        "SEARCH h USING PRIMARY KEY (queue=? AND key=?)",
        "SEARCH s USING COVERING INDEX step_name (entry=?)",
    ],
    "hold_others": ["SEARCH h USING PRIMARY KEY (queue=? AND key=?)"],
    "hold_supersede": ["SEARCH hold USING PRIMARY KEY (queue=? AND key=?)"],
    "hold_close": ["SEARCH hold USING PRIMARY KEY (queue=? AND key=?)"],
    "claim_company": [
        "SEARCH c USING PRIMARY KEY (head=?)",
        "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH m USING INTEGER PRIMARY KEY (rowid=?)",
    ],
    "hold_replace": ["SEARCH message USING INTEGER PRIMARY KEY (rowid=?)"],
    "hold_renew": ["SEARCH entry USING INTEGER PRIMARY KEY (rowid=?)"],
    "hold_postpone": ["SEARCH entry USING INTEGER PRIMARY KEY (rowid=?)"],
    "hold_sweep": ["SEARCH hold USING COVERING INDEX hold_until (until>? AND until<?)"],
    "hold_let_go": ["SEARCH hold USING INDEX hold_entry (entry=?)"],
    "note_named": ["SEARCH n USING INDEX sqlite_autoindex_note_1 (kind=? AND name=?)"],
    "note_highest": ["SEARCH note USING COVERING INDEX note_version (kind=?)"],
    "notes": ["SEARCH note USING INDEX note_version (kind=? AND version>?)"],
    "note_old": [
        "SEARCH n USING INDEX note_gone (at<?)",
        "SEARCH m USING COVERING INDEX note_version (kind=?)",
    ],
    "claim_front_ruled": [
        "SEARCH e USING INDEX entry_ready (queue=?)",
        "SEARCH m USING INTEGER PRIMARY KEY (rowid=?)",
    ],
    "claim_front_fair": [
        "SEARCH e USING INDEX entry_fair (queue=?)",
        "SEARCH m USING INTEGER PRIMARY KEY (rowid=?)",
    ],
    "rule_room": [
        "SEARCH lease USING COVERING INDEX lease_queue (queue=?)",
        "SEARCH pace USING PRIMARY KEY (queue=?)",
        "SEARCH line USING COVERING INDEX line_due (queue=? AND due>?)",
        "SEARCH relining USING PRIMARY KEY (queue=?)",
    ],
    "rule_full": ["SEARCH entry USING COVERING INDEX entry_named (name=? AND line>?)"],
    "rule_front": ["SEARCH entry USING INDEX entry_ready (queue=?)"],
    "line_stands": [
        "SEARCH entry USING COVERING INDEX entry_lined (line=? AND state=?)",
        "SEARCH entry USING COVERING INDEX entry_lined (line=? AND state=? AND started>?)",
        "SEARCH entry USING COVERING INDEX entry_waits (queue=? AND line=?)",
    ],
    "line_first": ["SEARCH b USING COVERING INDEX entry_waits (queue=? AND line=?)"],
    "line_waits": [
        "SEARCH b USING COVERING INDEX entry_waits (queue=? AND line=? AND priority>?)",
        "SEARCH b USING COVERING INDEX entry_waits (queue=? AND line=? AND priority=? AND seq<?)",
    ],
    "line_call": ["SEARCH line USING COVERING INDEX line_due (queue=? AND due>? AND due<?)"],
    "line_forget": ["SEARCH i USING COVERING INDEX line_idle (idle>? AND idle<?)"],
    "bucket_forget": ["SEARCH b USING COVERING INDEX bucket_full (full<?)"],
    "relining_entries": ["SEARCH e USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"],
    "relining_lines": ["SEARCH line USING COVERING INDEX line_queue (queue=? AND rowid>?)"],
    "pick_ids": ["SEARCH e USING INDEX entry_id (id=?)"],
    "created": ["SEARCH e USING INTEGER PRIMARY KEY (rowid>?)"],
    "range": ["SEARCH e"],
    "finished": [
        "SEARCH d USING COVERING INDEX entry_finished (queue=? AND state=? AND finished>?)",
        "SEARCH o USING COVERING INDEX entry_over (queue=? AND state=? AND finished>?)",
    ],
    "live": [
        "SEARCH r USING COVERING INDEX entry_ready (queue>? AND queue<?)",
        "SEARCH t USING COVERING INDEX entry_timed (queue>? AND queue<?)",
        "SEARCH b USING COVERING INDEX entry_blocked (queue>? AND queue<?)",
    ],
    "flow_left": [
        "SCAN flow_mark",
        "SCAN flow_step USING COVERING INDEX flow_step_opened",
        "SCAN flow USING COVERING INDEX flow_going",
    ],
    "flow_marks": [
        "SEARCH m USING INTEGER PRIMARY KEY (rowid>?)",
        "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)",
    ],
    "flow_children": ["SEARCH c USING COVERING INDEX flow_edge_parent (parent=? AND child>?)"],
    "flow_tell": ["SEARCH flow_step USING INTEGER PRIMARY KEY (rowid=?)"],
    "flow_told": ["SEARCH flow_step USING INTEGER PRIMARY KEY (rowid=?)"],
    "flow_unmark": ["SEARCH flow_mark USING INTEGER PRIMARY KEY (rowid=?)"],
    "flow_standing": [
        "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH s USING INTEGER PRIMARY KEY (rowid=?)",
    ],
    "flow_release": [
        "SEARCH entry USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH s USING INTEGER PRIMARY KEY (rowid=?)",
    ],
    "flow_drop": ["SEARCH entry USING INTEGER PRIMARY KEY (rowid=?)"],
    "flow_quiet": [
        "SEARCH f USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH m USING COVERING INDEX flow_mark_flow (flow=?)",
        "SEARCH c USING PRIMARY KEY (flow=?)",
    ],
    "flow_old": ["SEARCH f USING INDEX flow_over (state=? AND finished>?)"],
    "flow_entries_of": ["SEARCH e USING COVERING INDEX entry_flow (flow=?)"],
    "flow_forget_edges": ["SEARCH flow_edge USING PRIMARY KEY (child=? AND place=?)"],
    "flow_steps": [
        "SEARCH e USING INDEX entry_flow (flow=? AND rowid>?)",
        "SEARCH c USING PRIMARY KEY (child=?)",
    ],
    "flow_parents": [
        "SEARCH c USING PRIMARY KEY (child=? AND place>?)",
        "SEARCH p USING INTEGER PRIMARY KEY (rowid=?)",
    ],
    "flows": ["SCAN f"],
    "flows_in": ["SEARCH f USING INDEX flow_state (state=?)"],
}
TABLES = re.compile(r"\bSCAN (?:entry|message|try|result|e|m)\b|TEMP B-TREE")


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[apsw.Connection]:
    found = connect(str(tmp_path / "plans.db"))
    yield found
    found.close()


def plan(conn: apsw.Connection, name: str) -> list[str]:
    sql = statements()[name]
    bindings = dict.fromkeys(re.findall(r":(\w+)", sql))
    return [row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}", bindings)]


@pytest.mark.parametrize("name", HOT)
def test_a_hot_statement_uses_its_index(name: str, conn: apsw.Connection) -> None:
    steps = plan(conn, name)

    assert [wanted for wanted in HOT[name] if not any(wanted in step for step in steps)] == [], steps
    assert not [step for step in steps if TABLES.search(step)], steps


@pytest.mark.parametrize("name", statements())
def test_every_statement_is_sound(name: str, conn: apsw.Connection) -> None:
    plan(conn, name)


def test_every_file_of_statements_and_every_statement_in_it_says_what_it_is_for() -> None:
    texts = [
        file.read_text("utf-8") for file in resources.files("forebay.stores.sqlite").joinpath("sql").iterdir()
    ]
    parts = [text.split(NAME) for text in texts]
    each = {part.splitlines()[0]: part for _, *rest in parts for part in rest}
    names = [name + way for name, part in each.items() for way in ("", "_newest")[: 1 + ("{way}" in part)]]

    assert [head for head, *_ in parts if not (head.startswith("-- ") and "Locks: " in head)] == []
    assert [part for _, *rest in parts for part in rest if not part.splitlines()[1].startswith("-- ")] == []
    assert sorted(name for name in names if not name.startswith("piece_")) == sorted(statements())
