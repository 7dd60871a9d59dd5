"""The checker finds each anomaly in a history that is made to hold it, and none in those that hold none."""
import unittest

from anomalies import check
from history import History

DB = "a.db"


class Maker:
    """Writes a history by hand. Times rise by one with each line."""

    def __init__(self, **run):
        self.records = [{"type": "run", "may_lose": False, "accounts": 2, "balance": 100, **run}]
        self.now, self.n = 0.0, 0

    def begin(self, *ops, p="p1", node="n1", via="mount"):
        self.now += 1
        self.n += 1
        self.records.append({"type": "invoke", "p": p, "i": self.n, "t": self.now, "node": node, "via": via,
                             "ops": [list(o) for o in ops]})
        return p, self.n, ops

    def end(self, begun, outcome="ok", error=None):
        self.now += 1
        p, i, ops = begun
        self.records.append({"type": outcome, "p": p, "i": i, "t": self.now, "ops": [list(o) for o in ops], "error": error})

    def op(self, *ops, outcome="ok", error=None, **where):
        self.end(self.begin(*ops, **where), outcome, error)

    def append(self, value, key="x", db=DB, **more):
        self.op(("append", db, key, value), **more)

    def read(self, values, key="x", db=DB, **more):
        self.op(("read", db, key, values), **more)

    def final(self, node="n1", db=DB, bank=None, generation=None, **lists):
        self.records.append({"type": "final", "node": node, "db": db, "lists": lists, "bank": bank,
                             "generation": generation})

    def aside(self, db=DB, generation=None, **lists):
        self.records.append({"type": "aside", "db": db, "lists": lists, "generation": generation})

    def kinds(self):
        found, _ = check(History(self.records))
        return sorted(a.kind for a in found)


class Good(unittest.TestCase):
    def test_a_plain_history(self):
        m = Maker()
        for n in (1, 2, 3):
            m.append(n)
            m.read(list(range(1, n + 1)))
        m.read([1, 2], node="n2")  # a replica may be behind
        m.read([1, 2, 3], node="n2")
        m.final(x=[1, 2, 3])
        m.final(node="n2", x=[1, 2, 3])
        self.assertEqual(m.kinds(), [])

    def test_an_unknown_outcome_may_be_either(self):
        m = Maker()
        m.append(1, outcome="info", error="disk I/O error")
        m.append(2, outcome="info")
        m.begin(("append", DB, "x", 3))  # its client was killed
        m.read([2])
        m.final(x=[2, 3])
        self.assertEqual(m.kinds(), [])

    def test_what_was_set_aside_is_taken_out(self):
        m = Maker(may_lose=True)
        m.append(1)
        m.append(2, node="n1")  # only there, and acknowledged
        m.read([1, 2], node="n1")
        m.append(3, node="n2")
        m.read([1, 3], node="n1")
        m.aside(x=[1, 2])
        m.final(x=[1, 3])
        m.final(node="n2", x=[1, 3])
        self.assertEqual(m.kinds(), [])

    def test_transfers(self):
        m = Maker()
        m.op(("transfer", DB, 0, 1, 30, 1))
        m.op(("bank", DB, [70, 130]), ("read", DB, "bank", [1]))
        m.op(("read", DB, "bank", [1]), ("transfer", DB, 1, 0, 10, 2), ("bank", DB, [80, 120]), ("read", DB, "bank", [1, 2]))
        m.final(bank=[80, 120])
        m.records[-1]["lists"] = {"bank": [1, 2]}
        self.assertEqual(m.kinds(), [])

    def test_two_who_overlap(self):
        m = Maker()
        a = m.begin(("read", DB, "x", []), ("append", DB, "y", 1))
        b = m.begin(("append", DB, "x", 2), p="p2")
        m.end(a)
        m.end(b)
        m.final(x=[2], y=[1])
        self.assertEqual(m.kinds(), [])

    def test_an_import(self):
        m = Maker()
        m.op(("import", DB, 1))
        m.op(("import", DB, 2), outcome="info")
        m.op(("generation", DB, [1]))
        m.final(generation=[2])
        self.assertEqual(m.kinds(), [])


class Bad(unittest.TestCase):
    def expect(self, kind, m, *others):
        found = m.kinds()
        self.assertIn(kind, found)
        self.assertLessEqual(set(found), {kind, *others})

    def test_lost(self):
        m = Maker()
        m.append(1)
        m.append(2)
        m.final(x=[1])
        self.expect("lost", m)

    def test_lost_where_nothing_may_be_set_aside(self):
        m = Maker(may_lose=False)
        m.append(1)
        m.append(2)
        m.aside(x=[1, 2])
        m.final(x=[1])
        self.expect("lost", m)

    def test_vanished(self):
        m = Maker()
        m.append(1)
        m.append(2, outcome="info")
        m.read([1, 2])
        m.final(x=[1])
        self.expect("vanished", m)

    def test_set_aside_though_it_was_everywhere(self):
        m = Maker(may_lose=True)
        m.append(1)
        m.read([1], node="n1")
        m.read([1], node="n2")
        m.aside(x=[1])
        m.final(node="n1", x=[])
        m.final(node="n2", x=[])
        self.expect("everywhere", m)

    def test_duplicate(self):
        for final in ([1, 1], [1]):
            m = Maker()
            m.append(1)
            m.read([1, 1])
            m.final(x=final)
            self.expect("duplicate", m, "order")

    def test_duplicate_at_the_end(self):
        m = Maker()
        m.append(1)
        m.final(x=[1, 1])
        self.expect("duplicate", m)

    def test_garbage(self):
        m = Maker()
        m.append(1)
        m.read([1, 9])
        m.final(x=[1])
        self.expect("garbage", m, "vanished")
        m = Maker()
        m.final(x=[9])
        self.expect("garbage", m)

    def test_aborted_read(self):
        m = Maker()
        m.append(1, outcome="fail", error="database is locked")
        m.read([1])
        m.final(x=[])
        self.expect("G1a", m, "vanished")
        m = Maker()
        m.append(1, outcome="fail")
        m.final(x=[1])
        self.expect("G1a", m)

    def test_intermediate_read(self):
        m = Maker()
        m.op(("append", DB, "x", 1), ("append", DB, "x", 2))
        m.read([1], node="n2")
        m.final(x=[1, 2])
        self.expect("G1b", m, "G1c", "G-single")

    def test_its_own_write(self):
        m = Maker()
        m.op(("append", DB, "x", 1), ("read", DB, "x", []))
        m.final(x=[1])
        self.expect("internal", m)

    def test_read_that_does_not_repeat(self):
        m = Maker()
        a = m.begin(("read", DB, "x", []), ("read", DB, "x", [1]))
        m.append(1, p="p2")
        m.end(a)
        m.final(x=[1])
        self.expect("repeat", m)

    def test_balances_that_do_not_repeat(self):
        m = Maker()
        m.op(("bank", DB, [100, 100]), ("bank", DB, [90, 110]))
        self.expect("repeat", m)

    def test_two_orders(self):
        m = Maker()
        m.append(1)
        m.append(2)
        m.read([2, 1], node="n2")
        m.final(x=[1, 2])
        self.expect("order", m)

    def test_hole(self):
        m = Maker()
        for n in (1, 2, 3):
            m.append(n)
        m.read([1, 3], node="n2")
        m.final(x=[1, 2, 3])
        self.expect("order", m)

    def test_backwards(self):
        m = Maker()
        m.append(1)
        m.append(2)
        m.read([1, 2], node="n2")
        m.read([1], node="n2", p="p2")
        m.final(x=[1, 2])
        self.expect("backwards", m)

    def test_acknowledged_and_not_shown_on_that_node(self):
        m = Maker()
        m.append(1, node="n1")
        m.read([], node="n1", p="p2")
        m.final(x=[1])
        self.expect("backwards", m)

    def test_session_that_does_not_read_what_it_wrote(self):
        for via in ("proxy", "pos"):
            m = Maker()
            m.append(1, via=via, node="n1")
            m.read([], via=via, node="n2")
            m.final(x=[1])
            self.expect("unread", m)

    def test_write_cycle(self):
        m = Maker()
        a = m.begin(("append", DB, "x", 1), ("append", DB, "y", 1))
        b = m.begin(("append", DB, "x", 2), ("append", DB, "y", 2), p="p2")
        m.end(a)
        m.end(b)
        m.final(x=[1, 2], y=[2, 1])
        self.expect("G0", m)

    def test_circular_information_flow(self):
        m = Maker()
        a = m.begin(("append", DB, "x", 1), ("read", DB, "y", [2]))
        b = m.begin(("append", DB, "y", 2), ("read", DB, "x", [1]), p="p2")
        m.end(a)
        m.end(b)
        m.final(x=[1], y=[2])
        self.expect("G1c", m)

    def test_lost_update(self):
        m = Maker()
        a = m.begin(("read", DB, "x", []), ("append", DB, "x", 1))
        b = m.begin(("read", DB, "x", []), ("append", DB, "x", 2), p="p2")
        m.end(a)
        m.end(b)
        m.final(x=[1, 2])
        self.expect("G-single", m)

    def test_write_skew(self):
        m = Maker()
        a = m.begin(("read", DB, "x", []), ("append", DB, "y", 1))
        b = m.begin(("read", DB, "y", []), ("append", DB, "x", 2), p="p2")
        m.end(a)
        m.end(b)
        m.final(x=[2], y=[1])
        self.expect("G2", m)

    def test_halved(self):
        m = Maker()
        m.op(("append", DB, "x", 1), ("append", "b.db", "x", 2))
        m.final(x=[1])
        m.final(db="b.db", x=[])
        self.expect("halved", m, "lost")

    def test_sum_of_the_accounts(self):
        m = Maker()
        m.op(("bank", DB, [90, 100]))
        self.expect("bank", m)

    def test_balances_of_another_moment(self):
        m = Maker()
        m.op(("transfer", DB, 0, 1, 30, 1))
        m.op(("read", DB, "bank", [1]), ("bank", DB, [100, 100]))
        m.final(bank=[70, 130])
        m.records[-1]["lists"] = {"bank": [1]}
        self.expect("bank", m)

    def test_balances_at_the_end(self):
        m = Maker()
        m.op(("transfer", DB, 0, 1, 30, 1))
        m.final(bank=[100, 100])
        m.records[-1]["lists"] = {"bank": [1]}
        self.expect("bank", m)

    def test_half_an_import(self):
        m = Maker()
        m.op(("import", DB, 1))
        m.op(("import", DB, 2))
        m.op(("generation", DB, [1, 2]))
        m.final(generation=[2])
        self.expect("torn", m)

    def test_lost_import(self):
        m = Maker()
        m.op(("import", DB, 1))
        m.op(("import", DB, 2))
        m.final(generation=[1])
        self.expect("lost", m)

    def test_nodes_that_differ(self):
        m = Maker()
        m.append(1)
        m.final(node="n1", x=[1])
        m.final(node="n2", x=[])
        self.expect("differ", m)

    def test_corruption(self):
        m = Maker()
        m.read(None, outcome="fail", error="database disk image is malformed")
        self.expect("corrupt", m)
        m = Maker()
        m.op(("integrity", DB, "row 3 missing from index list_k"))
        self.expect("corrupt", m)


if __name__ == "__main__":
    unittest.main()
