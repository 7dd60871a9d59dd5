"""Finds in a history what no history of litefs may hold.

Each value is appended once, so a read of a list tells which transactions came before it, and in which order; the list at
the end tells the order of all. What is excused: a value that was committed and set aside (DATA/orphans), if the run had
troubles in which docs/architecture.md says that what was not sent yet may be lost. It is taken out of all that was read,
and the rest has to be as if it had never been.

Kinds of anomalies:

    lost          acknowledged, and neither there at the end nor set aside
    vanished      read by somebody, and neither there at the end nor set aside
    everywhere    set aside although a client had read it on every node
    duplicate     twice in one list
    garbage       read, and never written
    G1a           read, though its transaction had failed
    G1b           read without what the same transaction appended behind it
    internal      a transaction does not read what it has written itself
    repeat        two reads in one transaction differ
    order         two orders of one list, or a list with a hole
    backwards     a node showed less than it had shown, or acknowledged, before
    unread        a session does not read what it wrote (by cookie or -pos)
    G0 G1c G-single G2   a cycle of transactions
    halved        a commit over several databases is in one of them only
    bank          the sum of all accounts changed, or the balances are not those that the transfers make
    torn          a database that an import replaced is read in part
    differ        nodes differ at the end
    corrupt       SQLite says so
"""
import collections

Anomaly = collections.namedtuple("Anomaly", "kind text")

CORRUPT = ("malformed", "not a database")


class Lists:
    """What is at the end in each list, and what was set aside."""

    def __init__(self, history):
        self.final, self.aside = {}, {}
        for f in history.finals:
            for k, values in f["lists"].items():
                self.final.setdefault((f["db"], k), values)
        if history.run.get("may_lose"):
            for a in history.asides:
                for k, values in a["lists"].items():
                    self.aside.setdefault((a["db"], k), set()).update(values)
        self.place = {key: {v: i for i, v in enumerate(values)} for key, values in self.final.items()}

    def is_final(self, key, value):
        return value in self.place.get(key, ())

    def is_excused(self, key, value):
        return not self.is_final(key, value) and value in self.aside.get(key, ())

    def kept(self, key, values):
        return [v for v in values if not self.is_excused(key, v)]


def appends_of(op):
    """((db, key), value) of each."""
    for o in op.ops:
        if o[0] == "append":
            yield (o[1], o[2]), o[3]
        elif o[0] == "transfer":
            yield (o[1], "bank"), o[5]


class Checker:
    def __init__(self, history):
        self.history, self.run = history, history.run
        self.lists = Lists(history)
        self.found = []
        self.writer = {}  # (key, value) -> Op
        self.reads = []  # (op, key, what it read before its own appends)
        self.counts = collections.Counter()

    def say(self, kind, text):
        self.found.append(Anomaly(kind, text))

    def check(self):
        self.index()
        for op in self.history.ops:
            self.check_op(op)
        self.check_finals()
        self.check_lost()
        self.check_order_on_nodes()
        self.check_sessions()
        self.check_groups()
        self.check_imports()
        for db in sorted({key[0] for _, key, _ in self.reads} | {key[0] for key, _ in self.writer}):
            self.check_cycles(db)
        return self.found

    def index(self):
        for op in self.history.ops:
            self.counts[op.outcome] += 1
            for key, value in appends_of(op):
                assert (key, value) not in self.writer, f"the clients wrote {value} twice"
                self.writer[key, value] = op

    # --- one transaction ---

    def check_op(self, op):
        if op.error and any(text in op.error for text in CORRUPT):
            self.say("corrupt", f"{op}: {op.error}")
        own, base, banks = collections.defaultdict(list), {}, {}
        moved = collections.defaultdict(int)  # by transfers of its own
        for o in op.ops:
            if o[0] == "append":
                own[o[1], o[2]].append(o[3])
            elif o[0] == "transfer":
                own[o[1], "bank"].append(o[5])
                moved[o[1], o[2]] -= o[4]
                moved[o[1], o[3]] += o[4]
            elif o[0] == "read" and o[3] is not None:
                self.check_read(op, (o[1], o[2]), o[3], own[o[1], o[2]], base)
            elif o[0] == "bank" and o[2] is not None:
                self.check_bank(op, o[1], [b - moved[o[1], n] for n, b in enumerate(o[2])], banks)
            elif o[0] == "integrity" and o[2] not in (None, "ok"):
                self.say("corrupt", f"{op}: integrity_check of {o[1]}: {o[2]}")
        for db, balances in banks.items():
            if (db, "bank") in base:
                self.check_ledger(f"{op}", db, balances, base[db, "bank"])

    def check_read(self, op, key, values, own, base):
        if own and values[-len(own):] != own:
            self.say("internal", f"{op} appended {own} to {key} and read {values[-5:]}")
            return
        values = values[:len(values) - len(own)]
        if key in base:
            if base[key] != values:
                self.say("repeat", f"{op} read {key}: {tail(base[key])}, then {tail(values)}")
            return
        base[key] = values
        self.reads.append((op, key, values))
        if len(set(values)) != len(values):
            twice = [v for v, n in collections.Counter(values).items() if n > 1]
            self.say("duplicate", f"{op} read {twice[:5]} more than once in {key}")
        for v in values:
            w = self.writer.get((key, v))
            if w is None:
                self.say("garbage", f"{op} read {v} in {key}, which nobody wrote")
            elif w.outcome == "fail":
                self.say("G1a", f"{op} read {v} in {key} of {w}, which failed: {w.error}")
        self.check_intermediate(op, key, values)
        self.check_order(f"{op} read", key, values)

    def check_intermediate(self, op, key, values):
        last = self.writer.get((key, values[-1])) if values else None
        if last is not None and last is not op:
            whole = [v for k, v in appends_of(last) if k == key]
            if values[-len(whole):] != whole:
                self.say("G1b", f"{op} read {tail(values)} in {key}; {last} appended {whole}")

    def check_order(self, who, key, values):
        final, place = self.lists.final.get(key, []), self.lists.place.get(key, {})
        kept = self.lists.kept(key, values)
        gone = [v for v in kept if v not in place]
        if gone:
            self.say("vanished", f"{who} {gone[:5]} in {key}, which is not there at the end, nor set aside")
        elif kept != final[:len(kept)]:
            self.say("order", f"{who} {key} as {tail(kept)}; at the end its first {len(kept)} are {tail(final[:len(kept)])}")

    def check_bank(self, op, db, balances, banks):
        total = self.run["accounts"] * self.run["balance"]
        if sum(balances) != total:
            self.say("bank", f"{op}: the accounts of {db} sum up to {sum(balances)}, not {total}: {balances}")
        if banks.setdefault(db, balances) != balances:
            self.say("repeat", f"{op} read the accounts of {db}: {banks[db]}, then {balances}")

    def check_ledger(self, who, db, balances, values):
        want = [self.run["balance"]] * self.run["accounts"]
        for v in values:
            w = self.writer.get(((db, "bank"), v))
            for o in w.ops if w is not None else ():
                if o[0] == "transfer" and o[5] == v:
                    want[o[2]] -= o[4]
                    want[o[3]] += o[4]
        if want != balances:
            self.say("bank", f"{who}: the accounts of {db} are {balances}, its transfers make {want}")

    # --- the end ---

    def check_finals(self):
        by_db = collections.defaultdict(list)
        for f in self.history.finals:
            by_db[f["db"]].append(f)
        for db, finals in by_db.items():
            first = finals[0]
            for f in finals[1:]:
                for what in ("lists", "bank", "generation"):
                    if f.get(what) != first.get(what):
                        self.say("differ", f"{db}: {what} on {first['node']} and {f['node']}: {difference(first, f, what)}")
            for k, values in first["lists"].items():
                self.check_final_list(f"at the end of {db}", (db, k), values)
            if first.get("bank"):
                self.check_ledger("at the end", db, first["bank"], first["lists"].get("bank", []))

    def check_final_list(self, who, key, values):
        for v, n in collections.Counter(values).items():
            w = self.writer.get((key, v))
            if n > 1:
                self.say("duplicate", f"{who}: {v} is {n} times in {key}")
            if w is None:
                self.say("garbage", f"{who}: {v} in {key} was written by nobody")
            elif w.outcome == "fail":
                self.say("G1a", f"{who}: {v} in {key} is of {w}, which failed: {w.error}")

    def check_lost(self):
        seen_on = collections.defaultdict(set)
        for op, key, values in self.reads:
            if op.via != "export":
                for v in values:
                    if self.lists.is_excused(key, v):
                        seen_on[key, v].add(op.node)
        nodes = {f["node"] for f in self.history.finals}
        for (key, value), op in self.writer.items():
            if self.lists.is_final(key, value):
                continue
            if self.lists.is_excused(key, value):
                self.counts["set aside"] += op.outcome == "ok"
                if nodes and nodes <= seen_on[key, value]:
                    self.say("everywhere", f"{value} in {key} of {op} was read on every node, and is set aside")
            elif op.outcome == "ok":
                self.say("lost", f"{value} in {key} of {op} was acknowledged at {op.end:.3f}; it is not there at the end, "
                                 f"nor set aside")

    # --- what a node shows, in the order of time ---

    def check_order_on_nodes(self):
        """Whoever begins to read after another one has ended, or after an acknowledgement, sees no less."""
        events = collections.defaultdict(list)  # (node, key) -> (time, kind, op, place)
        for op, key, values in self.reads:
            if op.via == "export" or op.end is None:
                continue
            place = self.lists.place.get(key, {})
            n = len([v for v in values if v in place])
            events[op.node, key].append((op.begin, 1, op, n))
            events[op.node, key].append((op.end, 0, op, n))
        for (key, value), op in self.writer.items():
            if op.outcome == "ok" and self.lists.is_final(key, value):
                events[op.node, key].append((op.end, 0, op, self.lists.place[key][value] + 1))
        for (node, key), list_of in events.items():
            least, why = 0, None
            for _, is_begin, op, n in sorted(list_of, key=lambda e: (e[0], e[1])):
                if is_begin and n < least:
                    self.say("backwards", f"{op} read {n} values in {key} on {node}, where {why} had ended with {least} "
                                          f"{op.begin - why.end:.3f} s before")
                elif not is_begin and n > least:
                    least, why = n, op

    def check_sessions(self):
        """Of clients that carry a cookie, or a position, from node to node."""
        written = collections.defaultdict(list)
        reads = collections.defaultdict(dict)
        for op, key, values in self.reads:
            reads[op.process, op.index][key] = values
        for op in self.history.ops:
            seen = reads.get((op.process, op.index), {}) if op.via in ("proxy", "pos") else {}
            for key, values in seen.items():
                there = set(values)
                missing = [v for v in written[op.process, key] if v not in there and self.lists.is_final(key, v)]
                if missing:
                    self.say("unread", f"{op} did not read {missing[:5]} in {key}, which the session had written")
            if op.outcome == "ok":
                for key, value in appends_of(op):
                    written[op.process, key].append(value)

    # --- several databases, imports ---

    def check_groups(self):
        for op in self.history.ops:
            parts = list(appends_of(op))
            if len({key[0] for key, _ in parts}) < 2 or op.outcome == "fail":
                continue
            there = [self.lists.is_final(key, v) for key, v in parts]
            if any(there) and not all(there):
                self.say("halved", f"{op}: of {parts} only {[p for p, t in zip(parts, there) if t]} is there at the end")

    def check_imports(self):
        asked, last_ok, aside = collections.defaultdict(set), {}, collections.defaultdict(set)
        if self.run.get("may_lose"):
            for a in self.history.asides:
                aside[a["db"]].update(a.get("generation") or ())
        for op in self.history.ops:
            for o in op.ops:
                if o[0] == "import":
                    asked[o[1]].add(o[2])
                    if op.outcome == "ok":
                        last_ok[o[1]] = o[2]
        for op in self.history.ops:
            for o in op.ops:
                if o[0] == "generation" and o[2] is not None:
                    self.check_generation(f"{op}", o[1], o[2], asked)
        for f in self.history.finals:
            db, got = f["db"], f.get("generation")
            if got:
                self.check_generation(f"at the end on {f['node']}", db, got, asked)
                if got[0] < last_ok.get(db, 0) and last_ok[db] not in aside[db]:
                    self.say("lost", f"import {last_ok[db]} of {db} was acknowledged; at the end it is that of {got}")

    def check_generation(self, who, db, got, asked):
        if len(got) != 1:
            self.say("torn", f"{who}: rows of imports {got} in {db}")
        elif got[0] != 0 and got[0] not in asked[db]:
            self.say("garbage", f"{who}: rows of import {got} in {db}, which nobody made")

    # --- cycles ---

    def check_cycles(self, db):
        """Of transactions of one database, which has one order on all nodes."""
        edges = collections.defaultdict(dict)  # op -> {op: kind}

        def add(a, b, kind):
            if a is not None and b is not None and a is not b:
                edges[a].setdefault(b, kind)
        for key, values in self.lists.final.items():
            if key[0] == db:
                writers = [self.writer.get((key, v)) for v in values]
                for a, b in zip(writers, writers[1:]):
                    add(a, b, "ww")
        lost = {op for (key, v), op in self.writer.items() if self.lists.is_excused(key, v)}
        for op, key, values in self.reads:
            final = self.lists.final.get(key, [])
            if key[0] != db or op in lost or values != final[:len(values)]:
                continue
            if values:
                add(self.writer.get((key, values[-1])), op, "wr")
            if len(values) < len(final):
                add(op, self.writer.get((key, final[len(values)])), "rw")
        for component in components(edges):
            self.say_cycle(db, shortest_cycle(edges, component))

    def say_cycle(self, db, cycle):
        kinds = [kind for _, kind in cycle]
        n_rw = kinds.count("rw")
        name = "G2" if n_rw > 1 else "G-single" if n_rw else "G1c" if "wr" in kinds else "G0"
        self.say(name, f"{db}: " + ", ".join(f"{op} -{kind}->" for op, kind in cycle) + " the first")


def components(edges):
    """Strongly connected ones of more than one transaction (Tarjan, without recursion)."""
    number, low, on_stack, stack, found = {}, {}, set(), [], []
    for root in list(edges):
        if root in number:
            continue
        number[root] = low[root] = len(number)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter(edges[root]))]
        while work:
            op, rest = work[-1]
            for to in rest:
                if to not in number:
                    number[to] = low[to] = len(number)
                    stack.append(to)
                    on_stack.add(to)
                    work.append((to, iter(edges.get(to, ()))))
                    break
                if to in on_stack:
                    low[op] = min(low[op], number[to])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[op])
                if low[op] == number[op]:
                    component = set()
                    while op not in component:
                        member = stack.pop()
                        on_stack.discard(member)
                        component.add(member)
                    if len(component) > 1:
                        found.append(component)
    return found


def shortest_cycle(edges, component):
    """[(op, kind of the edge to the next)] of a shortest one through some member."""
    best = None
    for start in sorted(component, key=lambda op: op.begin)[:50]:
        came, queue = {start: None}, collections.deque([start])
        while queue:
            op = queue.popleft()
            if start in edges[op] and op is not start:
                path = [op]
                while came[path[-1]] is not None:
                    path.append(came[path[-1]])
                path.reverse()
                if best is None or len(path) < len(best):
                    best = path
                break
            for to in edges[op]:
                if to in component and to not in came:
                    came[to] = op
                    queue.append(to)
    return [(op, edges[op][best[(i + 1) % len(best)]]) for i, op in enumerate(best)]


def tail(values):
    return f"{len(values)} values, last {values[-5:]}"


def difference(a, b, what):
    x, y = a.get(what), b.get(what)
    if what != "lists":
        return f"{x}, {y}"
    keys = [k for k in {*x, *y} if x.get(k) != y.get(k)]
    return f"{len(keys)} lists, for example {keys[0]}: {tail(x.get(keys[0], []))}; {tail(y.get(keys[0], []))}"


def check(history):
    """(anomalies, counts)"""
    checker = Checker(history)
    return checker.check(), checker.counts
