"""Who may stand ready where a rule says so, and the buckets of queues. Runs inside a write transaction, but for what `sight` reads.

An entry that stands in a line is ready only while the rules leave room for it, so a claim need not know of lines. Whatever moves it marks
its line, by a trigger; `balance` makes marked lines keep their rules again, before a claim reads and before anything is committed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from forebay.engine import Finished, Ready, Spent
from forebay.model.rule import (
    AHEAD,
    FREE,
    MOST_AHEAD,
    TURN,
    Line,
    Place,
    Room,
    Stand,
    spent,
    tokens,
    waits_for_room,
    waits_in_line,
    when,
)
from forebay.model.when import SECOND
from forebay.stores.sqlite.rows import NAME, OF_NAME, QUEUE
from forebay.stores.sqlite.rules import catch_up, known
from forebay.stores.sqlite.session import batch as encoded, numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from forebay.model.rule import Nanos, RateLimit, Rules
    from forebay.model.waits import Waits
    from forebay.model.when import Instant, Micros
    from forebay.stores.sqlite.session import Row, Session, Value

CHUNK: Final = 1_000
"""Lines, or entries, that are looked at in one go."""
MOST: Final = 1_200
"""What stands in a line is counted no further: that is more than may stand and what a transaction adds."""
WALK: Final = 50_000
"""Entries that a step of looking through a queue passes by."""
LINGERS: Final[Micros] = 60 * SECOND
"""How long a line is kept in which nobody is, where keys take turns: who comes back by then has not lost what he owes the others."""

# -- how much may be taken


@dataclass(frozen=True, slots=True)
class Sight:
    """How a queue with rules is. ``room``: how many may be taken, if that is limited; ``refill``: when more, where its bucket is empty;
    ``due``: when another of a line may stand; ``looked_through``: nothing is handed out meanwhile; ``full``: names of which none may run
    now, as JSON; ``left``: how many more of those may that are limited.
    """

    room: int | None
    refill: Instant | None
    due: Instant | None
    looked_through: bool
    full: str
    left: dict[str, int]


def sight(session: Session, queue: str, rules: Rules) -> Sight:
    """Look, with or without a lock."""
    running, full, due, looked_through = session.row("rule_room", {"queue": queue})
    rule, refill = rules.rule, None
    room = None if rule.concurrency is None else max(rule.concurrency - running, 0)
    if rule.rate is not None:
        there = tokens(rule.rate, full or 0, session.now)
        room = there if room is None else min(room, there)
        refill = None if there else when(rule.rate, full or 0, session.now)
    left: dict[str, int] = {}
    if rules.most:
        runs: dict[str, int] = dict(session.rows("rule_full", {"names": encoded(list(rules.most))}))
        left = {name: max(most - runs.get(name, 0), 0) for name, most in rules.most.items()}
    names = encoded([name for name, number in left.items() if not number])
    return Sight(room, refill, due, bool(looked_through), names, left)


def gives(session: Session, queue: str, seen: Sight) -> bool:
    """Whether there is somebody at the front who may be taken."""
    if seen.room == 0 or seen.looked_through:
        return False
    return not seen.left or bool(session.row("rule_front", {"queue": queue, "full": seen.full})[0])


def is_due(session: Session, seen: Sight) -> bool:
    """Whether there is something to do before anybody can be taken."""
    return seen.looked_through or (seen.due is not None and seen.due <= session.now)


def counted_in(session: Session, queue: str) -> str | None:
    """The queue that a lease counts in; None where nobody asks."""
    rules = session.caps.rules.get(queue)
    return None if rules is None or rules.rule.concurrency is None else queue


def front(session: Session, queue: str, rules: Rules, seen: Sight, limit: int) -> list[Row]:
    """The front of a queue, as far as its rules let it be taken. After `tidy`."""
    limit = limit if seen.room is None else min(limit, seen.room)
    if limit <= 0 or seen.looked_through:
        return []
    statement = "claim_front_fair" if rules.rule.fair else "claim_front_ruled"
    asked: dict[str, Value] = {"queue": queue, "now": session.now, "full": seen.full, "limit": limit}
    if not seen.left:
        return session.rows(statement, asked)
    left = dict(seen.left)
    found: dict[int, Row] = {}
    while _more(session.stream(statement, asked | {"limit": -1}), limit, left, found):
        # The statement itself passes by those whose name has become full: with their lines they may be as many as there are keys.
        asked["full"] = encoded([name for name, number in left.items() if not number])
    return list(found.values())


def _more(rows: Iterable[Row], limit: int, left: dict[str, int], found: dict[int, Row]) -> bool:
    """Add the next of the front to what is ``found``, until there are enough or a name has no more ``left``; whether that was why."""
    for row in rows:
        if row[0] in found:
            continue
        found[row[0]] = row
        if len(found) == limit:
            return False
        if (number := left.get(row[NAME])) is not None:
            left[row[NAME]] = number - 1
            if number == 1:
                return True
    return False


def tidy(session: Session, queue: str) -> None:
    """Before the front of a queue with rules is read: what is late is over, who is due stands, and nobody else."""
    look_through(session, queue)
    part: dict[str, Value] = {"queue": queue, "now": session.now, "limit": CHUNK}
    if session.change("limit_expire", part):
        session.news.add(Finished())
    session.change("line_call", part)
    balance(session)


def taken(session: Session, queue: str, rules: Rules, entries: str) -> None:
    """Entries were taken: they have had their tokens and their turns."""
    rule = rules.rule
    full, turn = before = _pace(session, queue)
    lines = session.rows("line_taken", {"entries": entries}) if rule.rate_per_key or rule.fair else []
    if rule.rate is not None:
        number = entries.count(",") + 1
        full = spent(rule.rate, full, session.now, number)
    if (rate := rule.rate_per_key) is not None:
        debits = [
            (line, spent(rate, owed, session.now, number)) for line, number, key, owed, _ in lines if key
        ]
        session.change("line_debit", {"batch": encoded(debits)})
    if rule.fair:
        turn = max([turn, *(rank for *_, rank in lines if rank is not None)])
        session.change("line_unrank", {"entries": entries})
    if (full, turn) != before:
        session.change("pace_keep", {"queue": queue, "full": full, "turn": turn})


def freed(session: Session, queues: Iterable[str]) -> None:
    """Some of these queues run no more: there may be room for others there."""
    if rules := session.caps.rules:
        session.news.update(
            Ready(queue)
            for queue in queues
            if queue in rules and (rules[queue].rule.concurrency or rules[queue].most)
        )


def spend(session: Session, bucket: str, rate: RateLimit, patience: Micros) -> Spent:
    """Take the next token of a shared bucket, if it comes in time."""
    full = next(iter(session.rows("bucket_of", {"name": bucket})), (0,))[0]
    wait = when(rate, full, session.now, ahead=AHEAD) - session.now
    if wait <= patience:
        session.change(
            "bucket_keep", {"name": bucket, "full": spent(rate, full, session.now, 1, ahead=AHEAD)}
        )
    return Spent(wait, taken=wait <= patience)


def waits(session: Session, blocked: Sequence[int], ready: Sequence[Row]) -> dict[int, Waits]:
    """What some entries wait for that stand in line, or are ready (rows of `records`), where that is not a worker. Without a lock."""
    catch_up(session, session.row("rules_mark")[0])
    if not session.caps.rules:
        return {}
    found: dict[int, Waits | None] = {}
    for seq, queue, key, name, full, due, running, held, ahead in (
        session.rows("line_waits", {"entries": numbers(blocked), "most": MOST_AHEAD}) if blocked else []
    ):
        rules = session.caps.rules.get(queue, FREE)
        found[seq] = waits_in_line(rules, Place(key, name), Line(running, bool(held), full), ahead, due)
    seen = {
        queue: sight(session, queue, session.caps.rules[queue])
        for queue in {row[QUEUE] for row in ready} & session.caps.rules.keys()
    }
    for row in ready:
        queue, name = row[QUEUE], row[OF_NAME]
        if (one := seen.get(queue)) is not None:
            room = Room(one.room, one.refill, one.left.get(name) == 0)
            found[row[0]] = waits_for_room(queue, name, session.caps.rules[queue], room)
    return {seq: one for seq, one in found.items() if one is not None}


# -- who stands where


def places(session: Session, wanted: Iterable[tuple[str, Place]]) -> dict[tuple[str, Place], int]:
    """The lines of some places, made where there are none."""
    rows = [(queue, *place) for queue, place in set(wanted)]
    found: dict[tuple[str, Place], int] = {}
    for start in range(0, len(rows), CHUNK):
        some = {"batch": encoded(rows[start : start + CHUNK])}
        session.change("line_open", some)
        found |= {
            (queue, Place(key, name)): line for queue, key, name, line in session.rows("line_ids", some)
        }
    return found


def enter(session: Session, entries: str) -> None:
    """Entries that have begun anew stand in line, where there is one for them. ``entries``: a JSON array of sequence numbers."""
    if rules := session.caps.rules:
        free = session.rows("line_enter", {"entries": entries})
        _join(
            session,
            [(seq, queue, rules[queue].place(key, name)) for seq, queue, key, name in free if queue in rules],
            anew=True,
        )


def _join(session: Session, found: Iterable[tuple[int, str, Place | None]], *, anew: bool) -> None:
    wanted = [(seq, (queue, place)) for seq, queue, place in found if place is not None]
    if wanted:
        lines = places(session, (where for _, where in wanted))
        rows = [(seq, lines[where]) for seq, where in wanted]
        session.change("line_join", {"batch": encoded(rows), "anew": int(anew)})


class _Marked(NamedTuple):
    """A row of `line_stands`. ``first``, ``last``: of those that wait and that stand, as numbers in the order of lines."""

    line: int
    queue: str | None
    key: str
    name: str
    full: Nanos
    finish: int
    due: Instant | None
    idle: Instant | None
    running: int
    standing: int
    held: int
    first: int | None
    last: int | None
    live: int


def balance(session: Session) -> None:
    """Make all lines keep their rules of which an entry has moved."""
    if not session.row("line_marked")[0]:
        return
    catch_up(session, session.row("rules_mark")[0])
    while rows := session.rows("line_stands", {"limit": CHUNK, "most": MOST}):
        _balance(session, [_Marked(*row) for row in rows])


def _balance(session: Session, lines: list[_Marked]) -> None:
    """Some of them. Those that could not be done at once stay marked."""
    first: defaultdict[int, list[int]] = defaultdict(list)
    again, stands = set[int](), dict[int, Stand]()
    for line in lines:
        if line.queue is None:
            continue
        rules = session.caps.rules.get(line.queue, FREE)
        measures = Line(line.running, bool(line.held), line.full)
        stand = stands[line.line] = rules.stand(Place(line.key, line.name), measures, session.now)
        if line.standing > stand.number:
            _cut(session, line.line, stand.number)
            again.add(line.line)
            continue
        overtakes = line.first is not None and line.last is not None and line.first < line.last
        if overtakes and stand.number:
            again.add(line.line)
        if line.first is not None and line.standing < stand.number:
            first[stand.number - line.standing].append(line.line)
            session.news.add(Ready(line.queue))
        elif overtakes and stand.number:
            # Somebody has come who goes first.
            _cut(session, line.line, stand.number - 1)
    for number, some in first.items():
        seqs = numbers(
            seq for (seq,) in session.rows("line_first", {"lines": numbers(some), "number": number})
        )
        session.change("line_unblock", {"entries": seqs, "now": session.now})
    done = [line for line in lines if line.line not in again]
    _keep(session, done, stands)
    session.change("line_unmark", {"lines": numbers(line.line for line in done)})


def _cut(session: Session, line: int, number: int) -> None:
    """Those that stand too many give way, the last first."""
    seqs = numbers(seq for (seq,) in session.rows("line_last", {"line": line, "number": number}))
    session.change("line_block", {"entries": seqs})


def _keep(session: Session, lines: list[_Marked], stands: Mapping[int, Stand]) -> None:
    """Give turns to those that stand, and keep what has changed of their lines."""
    finish, turns = _rank(session, lines)
    kept, closed = list[tuple[object, ...]](), list[int]()
    for line in lines:
        if line.queue is None:
            continue
        due = idle = None
        if line.live:
            due = stands[line.line].due if line.first is not None else None
            if due is not None and due != line.due:
                session.news.add(Ready(line.queue))
        else:
            owes = line.finish > turns.get(line.queue, 0)
            idle = max(-(-line.full // 1_000), session.now + LINGERS if owes else 0)
            if idle <= session.now:
                closed.append(line.line)
                continue
        now = (finish.get(line.line, line.finish), due, idle)
        if now != (line.finish, line.due, line.idle):
            kept.append((line.line, *now))
    if kept:
        session.change("line_keep", {"batch": encoded(kept)})
    if closed:
        session.change("line_close", {"lines": numbers(closed)})


def _rank(session: Session, lines: list[_Marked]) -> tuple[dict[int, int], dict[str, int]]:
    """Start-time fair queueing (Goyal, Vin and Cheng, 1996): a turn begins where the last one of its line ends, or now. When the last turns
    of lines end, and the virtual time of their queues.
    """
    rules = session.caps.rules
    fair = {one.line: one for one in lines if one.queue in rules and rules[one.queue].rule.fair}
    if not fair:
        return {}, {}
    turns = {
        queue: _pace(session, queue)[1] for queue in {one.queue for one in fair.values()} if queue is not None
    }
    finish = {line: one.finish for line, one in fair.items()}
    ranks = []
    for line, seq in session.rows("line_rankless", {"lines": numbers(fair)}):
        queue, key = fair[line].queue or "", fair[line].key
        start = max(finish[line], turns[queue])
        finish[line] = start + TURN // rules[queue].rule.weight(key)
        ranks.append((seq, start))
    if ranks:
        session.change("line_rank", {"batch": encoded(ranks)})
    return finish, turns


def _pace(session: Session, queue: str) -> tuple[Nanos, int]:
    """The bucket of a queue, and its virtual time."""
    return next(iter(session.rows("pace_of", {"queue": queue})), (0, 0))


# -- when rules change


def follow(session: Session, before: Mapping[str, Rules]) -> None:
    """Rules may be others than ``before``: the queues concerned are looked through, the first part of each at once."""
    after = known(session)
    concerned = [queue for queue in {*before, *after} if before.get(queue, FREE) != after.get(queue, FREE)]
    for queue in concerned:
        if after.get(queue, FREE).rule.concurrency is not None:
            session.change("lease_name", {"queue": queue})
        session.change("reline", {"queue": queue})
        session.news.add(Ready(queue))
    if concerned:
        session.change("limits_changed")
        catch_up(session, session.row("rules_mark")[0])
    for queue in concerned:
        look_through(session, queue)


def look_through(session: Session, queue: str) -> None:
    """The next part of a queue whose rules have changed: whoever waits stands in the line that is now his, and all lines are marked."""
    found = session.rows("relining_of", {"queue": queue})
    if not found:
        return
    rules = session.caps.rules.get(queue, FREE)
    entry, line = found[0]
    if entry is not None:
        last = min(entry + WALK, session.row("range")[1])
        part = {"queue": queue, "after": entry, "last": last, "limit": CHUNK}
        rows = session.rows("relining_entries", part)
        moved = [
            (seq, queue, place)
            for seq, key, name, *stands in rows
            if (place := rules.place(key, name)) is not None and [*place] != stands
        ]
        _join(session, moved, anew=False)
        end = last if last == entry + WALK else None
        entry = rows[-1][0] if len(rows) == CHUNK else end
    if line is not None:
        ids = [
            one for (one,) in session.rows("relining_lines", {"queue": queue, "after": line, "limit": CHUNK})
        ]
        session.change("line_mark", {"lines": numbers(ids)})
        line = ids[-1] if len(ids) == CHUNK else None
    if entry is None and line is None:
        session.change("relining_end", {"queue": queue})
        session.change("limits_changed")
        session.news.add(Ready(queue))
    else:
        session.change("relining_keep", {"queue": queue, "entry": entry, "line": line})


# -- upkeep


def look(session: Session) -> bool:
    """Whether there is anything to do."""
    return bool(session.row("line_look", {"now": session.now, "nanos": session.now * 1_000})[0])


def sweep(session: Session, budget: int) -> bool:
    """Look through queues whose rules have changed, call lines whose moment has come, forget what is empty; whether there may be more."""
    if not look(session):
        return False
    catch_up(session, session.row("rules_mark")[0])
    for queue in session.caps.rules:
        tidy(session, queue)
    balance(session)
    bound = {"now": session.now, "nanos": session.now * 1_000, "limit": budget}
    forgotten = [session.change(one, bound) for one in ("line_forget", "bucket_forget")]
    return budget in forgotten or bool(session.rows("relining_queues"))
