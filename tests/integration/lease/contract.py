"""What lease/lease.h promises, for any backend with a real server, or a file.

A test class adds `server`, new_server(), node(hostname), end_session(session), delete_key(suffix), delete_tree(),
take_key_from(session) and write_by_litefs()."""
import time

from lease_fixture import wait_until

CALL_SLACK_MS = 5000  # of a loaded machine, over a call's own deadline


class Contract:
    TTL_MS = 2000
    CALL_MS = 500
    ENDS_AT_TTL = False  # the service's own doing
    SERVER_IS_GONE = "ECONNREFUSED"

    def wait_stale(self, node):
        """Waits until `node` has seen the same mark for the holder's TTL; as a candidate does."""
        seen = node.ok("read")
        since = time.monotonic()
        while time.monotonic() - since < seen.ttl_ms / 1000:
            time.sleep(0.02)
            now = node.ok("read")
            if now.renewal != seen.renewal:
                seen, since = now, time.monotonic()
        return seen

    def break_stale(self, node):
        """What the node saw last. etcd may have ended the session by itself meanwhile, Consul keeps it longer."""
        seen = self.wait_stale(node)
        answer = node.call("break")
        if answer.code != "OK":
            self.assertCode(answer, "E_NOT_PRIMARY")
            self.assertTrue(self.ENDS_AT_TTL)
            self.assertFalse(node.ok("read").has_holder)
        return seen

    def holder(self, hostname="a"):
        n = self.node(hostname)
        n.ok("acquire")
        return n

    # --- acquire, renew, release ---

    def test_nobody_holds_a_new_lease(self):
        a = self.node("a")
        self.assertFalse(a.ok("read").has_holder)
        self.assertIsNone(a.left_ms())
        self.assertCode(a.call("renew"), "E_NOT_PRIMARY")

    def test_one_of_two_acquires(self):
        a, b = self.node("a"), self.node("b")
        got = a.ok("acquire")
        self.assertCode(b.call("acquire"), "E_NOT_PRIMARY")
        self.assertIsNone(b.left_ms())
        seen = b.ok("read")
        self.assertTrue(seen.has_holder)
        self.assertEqual((seen.hostname, seen.url), ("a", "http://a:20202"))
        self.assertEqual((seen.term, seen.session, seen.ttl_ms), (got.term, got.session, self.TTL_MS))

    def test_a_restarted_holder_inherits_nothing(self):
        self.holder("a").kill()
        self.assertCode(self.node("a").call("acquire"), "E_NOT_PRIMARY")

    def test_renewals_move_the_deadline_and_not_the_term(self):
        a, b = self.holder(), self.node("b")
        seen = [b.ok("read")]
        for _ in range(3):
            left, before = a.left_ms(), a.deadline_ms()
            self.assertLessEqual(left, self.TTL_MS * 9 // 10)
            wait_until(lambda: a.left_ms() < left - 20, "time to pass")
            a.ok("renew")
            self.assertGreaterEqual(a.deadline_ms(), before + 20)
            self.assertLessEqual(a.left_ms(), self.TTL_MS * 9 // 10)
            seen.append(b.ok("read"))
        self.assertEqual({s.term for s in seen}, {seen[0].term})
        self.assertEqual({s.session for s in seen}, {seen[0].session})
        self.assertEqual(sorted({s.renewal for s in seen}), [s.renewal for s in seen])

    def test_a_renewed_lease_outlives_its_ttl(self):
        a, b = self.holder(), self.node("b")
        end = time.monotonic() + 2.2 * self.TTL_MS / 1000
        while time.monotonic() < end:
            a.ok("renew")
            self.assertGreater(a.left_ms(), 0)
            self.assertCode(b.call("acquire"), "E_NOT_PRIMARY")
            time.sleep(self.TTL_MS / 4000)

    def test_released_it_is_free_at_once_and_terms_rise(self):
        nodes = [self.node("a"), self.node("b")]
        terms = []
        for i in range(10):
            n = nodes[i // 3 % 2]  # the same again, and another
            terms.append(n.ok("acquire").term)
            if i % 2:
                n.ok("renew")
            n.ok("release")
            self.assertIsNone(n.left_ms())
            self.assertFalse(n.ok("read").has_holder)
        self.assertEqual(terms, sorted(set(terms)))

    def test_one_of_many_wins(self):
        nodes = [self.node(f"n{i}") for i in range(5)]
        terms = []
        for _ in range(10):
            for n in nodes:
                n.send("acquire")
            answers = [n.receive() for n in nodes]
            winners = [n for n, a in zip(nodes, answers) if a.code == "OK"]
            self.assertEqual(len(winners), 1, [(a.code, a.text) for a in answers])
            self.assertEqual({a.code for a in answers}, {"OK", "E_NOT_PRIMARY"})
            terms += [a.term for a in answers if a.code == "OK"]
            winners[0].ok("release")
        self.assertEqual(terms, sorted(set(terms)))

    # --- from program to program ---

    def test_handed_on_it_is_the_same_and_is_renewed(self):
        a, b = self.holder(), self.node("b")
        a.ok("renew")
        before, at = b.ok("read"), a.deadline_ms()
        got = a.ok("hand-on")
        self.assertEqual((got.term, got.session), (before.term, before.session))
        self.assertEqual(a.deadline_ms(), at)
        self.assertEqual(b.ok("read").renewal, before.renewal)  # nobody was asked
        a.ok("renew")
        after = b.ok("read")
        self.assertEqual((after.term, after.session, after.hostname), (before.term, before.session, "a"))
        self.assertNotEqual(after.renewal, before.renewal)
        self.assertGreaterEqual(a.deadline_ms(), at)
        self.assertCode(b.call("acquire"), "E_NOT_PRIMARY")
        a.ok("release")
        self.assertGreater(b.ok("acquire").term, before.term)

    def test_handed_on_after_it_was_lost(self):
        """Nobody has noticed: the next renewal does."""
        a = self.holder()
        self.end_session(a.ok("read").session)
        a.ok("hand-on")
        self.assertCode(a.call("renew"), "E_NOT_PRIMARY")
        self.assertIsNone(a.left_ms())
        self.assertCode(a.call("hand-on"), "E_NOT_PRIMARY")
        self.assertCode(a.call("renew"), "E_NOT_PRIMARY")

    def test_handed_on_after_the_watch_has_seen_it_lost(self):
        """Whoever has it then does not hold it, nor lets its session live on."""
        a = self.holder()
        session = a.ok("read").session
        a.send("watch")
        self.end_session(session)
        self.assertCode(a.receive(), "E_NOT_PRIMARY")
        self.assertCode(a.call("hand-on"), "E_NOT_PRIMARY")
        self.assertIsNone(a.left_ms())

    def test_handed_on_to_another_ttl_it_is_refused(self):
        a = self.holder()
        self.assertCode(a.call(f"hand-on {self.TTL_MS + 1000}"), "E_CONFIG")
        self.assertIsNone(a.left_ms())

    # --- losing it ---

    def test_an_ended_session_is_lost(self):
        a = self.holder()
        self.end_session(a.ok("read").session)
        self.assertCode(a.call("renew"), "E_NOT_PRIMARY")
        self.assertIsNone(a.left_ms())
        self.assertCode(a.call("renew"), "E_NOT_PRIMARY", "does not hold")

    def test_a_renewal_does_not_acquire(self):
        """The session lives, but the lease was taken from it: break_stale, when it could not end the session."""
        a = self.holder()
        self.take_key_from(a.ok("read").session)
        self.assertCode(a.call("renew"), "E_NOT_PRIMARY")
        self.assertIsNone(a.left_ms())
        self.assertFalse(a.ok("read").has_holder)

    def test_a_server_that_hangs_costs_a_bounded_time_and_then_the_lease(self):
        a, b = self.holder(), self.node("b")
        b.ok("read")
        before = a.left_ms()
        self.server.pause()
        try:
            for n, line in ((a, "renew"), (b, "read"), (b, "get-id"), (b, "break"), (a, "offer")):
                answer = n.call(line)
                self.assertCode(answer, "ETIMEDOUT", "no answer within")
                self.assertLess(answer.us / 1000, self.CALL_MS + CALL_SLACK_MS)
            self.assertLess(a.left_ms(), before)
            wait_until(lambda: a.left_ms() < 0, "the deadline to pass")
        finally:
            self.server.resume()

    def test_a_short_hang_costs_nothing(self):
        a = self.holder()
        before = a.deadline_ms()
        self.server.pause()
        try:
            self.assertCode(a.call("renew"), "ETIMEDOUT")
        finally:
            self.server.resume()
        self.assertEqual(a.deadline_ms(), before)
        a.ok("renew")
        self.assertGreater(a.deadline_ms(), before)

    def test_an_acquisition_of_unknown_outcome_is_undone(self):
        a, b = self.node("a"), self.node("b")
        a.ok("read")
        self.server.pause()
        try:
            self.assertCode(a.call("acquire-seen"), "ETIMEDOUT")
            self.assertIsNone(a.left_ms())
        finally:
            self.server.resume()
        a.ok("acquire")
        a.ok("release")
        b.ok("acquire")

    # --- a holder that is gone ---

    def test_a_renewed_lease_is_not_broken(self):
        a, b = self.holder(), self.node("b")
        b.ok("read")
        a.ok("renew")
        self.assertCode(b.call("break"), "E_NOT_PRIMARY")
        a.ok("renew")
        self.assertGreater(a.left_ms(), 0)
        b.ok("read")
        a.ok("release")
        self.assertCode(b.call("break"), "E_NOT_PRIMARY")

    def test_a_dead_holders_lease_is_broken_and_free_at_once(self):
        a, b, c = self.holder(), self.node("b"), self.node("c")
        a.ok("renew")
        term = b.ok("read").term
        died = time.monotonic()
        a.kill()
        self.break_stale(b)
        start = time.monotonic()
        got = b.ok("acquire")
        took_ms = (time.monotonic() - start) * 1000
        print(f"dead holder: ttl {self.TTL_MS} ms, held by another {1000 * (time.monotonic() - died):.0f} ms after"
              f" SIGKILL, {took_ms:.1f} ms of it to acquire", flush=True)
        self.assertGreater(got.term, term)
        self.assertLess(took_ms, 950)  # no lock-delay, which is 1 s
        c.ok("read")
        self.assertGreater(b.left_ms(), 0)

    def test_one_of_two_candidates_breaks_it(self):
        a, b, c = self.holder(), self.node("b"), self.node("c")
        a.kill()
        c.ok("read")
        self.break_stale(b)
        b.ok("acquire")
        self.assertCode(c.call("break"), "E_NOT_PRIMARY")
        b.ok("renew")

    def test_where_nobody_was_seen_nothing_is_broken(self):
        b = self.node("b")
        b.ok("read")
        a = self.holder()
        self.assertCode(b.call("break"), "E_NOT_PRIMARY", "nobody held")
        a.ok("renew")

    def test_a_holder_that_was_stopped_finds_its_lease_gone(self):
        a, b = self.holder(), self.node("b")
        a.pause()
        try:
            self.break_stale(b)
        finally:
            a.resume()
        # Nobody has it: a renewal must not be an acquisition.
        self.assertLess(a.left_ms(), 0)
        self.assertCode(a.call("renew"), "E_NOT_PRIMARY")
        self.assertIsNone(a.left_ms())
        self.assertFalse(a.ok("read").has_holder)
        b.ok("acquire")
        a.ok("release")
        b.ok("renew")

    def test_litefs_does_not_mark_renewals_and_is_not_broken(self):
        session = self.write_by_litefs('{"hostname":"old","advertise-url":"http://old:20202"}')
        b = self.node("b")
        seen = b.ok("read")
        self.assertEqual((seen.has_holder, seen.hostname, seen.url), (True, "old", "http://old:20202"))
        self.assertEqual((seen.ttl_ms, seen.session), (0, session))
        self.assertCode(b.call("break"), "EOPNOTSUPP")
        self.assertCode(b.call("acquire"), "E_NOT_PRIMARY")

    def test_a_value_of_somebody_else_is_an_error(self):
        self.write_by_litefs('{"hostname":5}')
        b = self.node("b")
        self.assertCode(b.call("read"), "E_FORMAT", "not what LiteFS writes")

    # --- whether the last holder has stopped ---

    def test_a_release_is_told_from_a_loss(self):
        a, b = self.holder(), self.node("b")
        term = a.ok("read").term
        a.ok("release")
        seen = b.ok("read")
        self.assertEqual((seen.has_holder, seen.is_released, seen.last_term), (False, True, term))
        term = b.ok("acquire").term
        self.end_session(b.ok("read").session)
        seen = a.ok("read")
        self.assertEqual((seen.has_holder, seen.is_released, seen.last_term), (False, False, term))

    def test_a_key_that_was_deleted_is_no_release(self):
        a, b = self.holder(), self.node("b")
        a.ok("release")
        term = a.ok("acquire").term
        self.delete_key("")
        seen = b.ok("read")
        self.assertEqual((seen.has_holder, seen.is_released, seen.last_term), (False, False, term))
        self.assertCode(a.call("renew"), "E_NOT_PRIMARY")
        self.assertIsNone(a.left_ms())

    def test_a_broken_lease_counts_as_released(self):
        a, b = self.holder(), self.node("b")
        term = a.ok("read").term
        a.kill()
        self.break_stale(b)
        seen = b.ok("read")
        self.assertEqual((seen.has_holder, seen.is_released, seen.last_term), (False, True, term))

    def test_an_acquisition_is_bound_to_what_was_seen(self):
        """Somebody else has had it since, and lost it: nobody holds it, as when it was seen."""
        a, b = self.holder(), self.node("b")
        a.ok("release")
        b.ok("read")
        a.ok("acquire")
        self.end_session(a.ok("read").session)
        self.assertFalse(a.ok("read").has_holder)
        self.assertCode(b.call("acquire-seen"), "E_NOT_PRIMARY")
        self.assertIsNone(b.left_ms())
        b.ok("read")
        wait_until(lambda: b.call("acquire-seen").code == "OK", "the lock-delay to pass")

    def test_an_acquisition_is_bound_to_the_release_that_was_seen(self):
        """A service that was restored since may have KEY and KEY/term as they were seen, and no release."""
        a, b = self.holder(), self.node("b")
        a.ok("release")
        self.assertTrue(b.ok("read").is_released)
        self.delete_key("/released")
        self.assertCode(b.call("acquire-seen"), "E_NOT_PRIMARY")
        self.assertIsNone(b.left_ms())
        b.ok("read")
        b.ok("acquire-seen")

    def test_it_is_bound_to_the_last_term_even_where_all_was_deleted(self):
        a, b = self.holder(), self.node("b")
        self.delete_tree()
        b.ok("read")
        b.ok("raise-term 5000")
        seen = a.ok("read")
        self.assertEqual((seen.last_term, seen.is_released, seen.is_raised), (5000, False, True))
        self.assertCode(b.call("acquire-seen"), "E_NOT_PRIMARY")
        a.ok("read")
        self.delete_tree()
        self.assertCode(a.call("acquire-seen"), "E_NOT_PRIMARY")
        b.ok("read")
        b.ok("raise-term 5000")
        b.ok("read")
        self.assertEqual(b.ok("acquire-seen").term, 5001)
        self.assertFalse(a.ok("read").is_raised)

    # --- terms ---

    def test_a_term_is_later_than_the_last_and_than_asked_for(self):
        a, b = self.node("a"), self.node("b")
        self.assertEqual(a.ok("read").last_term, 0)
        self.assertEqual(a.ok("acquire 70000").term, 70000)
        self.assertEqual(b.ok("read").term, 70000)
        a.ok("renew")
        self.assertEqual(b.ok("read").term, 70000)
        a.ok("release")
        self.assertEqual(b.ok("read").last_term, 70000)
        self.assertEqual(b.ok("acquire").term, 70001)
        token = b.ok("offer").token
        self.assertEqual(a.ok("take-over " + token).term, 70002)

    def test_a_term_is_raised_only_where_it_is_as_it_was_seen(self):
        a, b = self.node("a"), self.node("b")
        b.ok("read")
        a.ok("acquire 100000")
        self.assertCode(b.call("raise-term 200000"), "E_NOT_PRIMARY")
        a.ok("release")
        self.assertCode(b.call("raise-term 200000"), "E_NOT_PRIMARY")
        b.ok("read")
        self.assertCode(b.call("raise-term 99999"), "E_NOT_PRIMARY")
        b.ok("raise-term 200000")
        seen = a.ok("read")
        self.assertEqual((seen.last_term, seen.is_released, seen.is_raised), (200000, False, True))

    def test_who_acquired_the_last_term_is_known(self):
        a, b = self.node("a"), self.node("b")
        self.assertEqual(a.ok("get-heir").session, "")
        session = a.ok("acquire").session
        a.ok("release")
        self.assertEqual(b.ok("get-heir").session, session)

    # --- the watch ---

    def watched_loss(self, lose):
        a = self.holder()
        session = a.ok("read").session
        a.send("watch")
        time.sleep(0.3)  # so that it is under way; it must see it anyway
        start = time.monotonic()
        lose(session)
        answer = a.receive()
        while answer.code == "OK":  # it was still held a moment ago
            answer = a.call("watch")
        self.assertCode(answer, "E_NOT_PRIMARY")
        print(f"the watch: {1000 * (time.monotonic() - start):.1f} ms", flush=True)
        self.assertIsNone(a.left_ms())
        self.assertCode(a.call("renew"), "E_NOT_PRIMARY")

    def test_the_watch_sees_a_session_that_ends(self):
        self.watched_loss(self.end_session)

    def test_the_watch_sees_a_key_that_is_deleted(self):
        self.watched_loss(lambda _: self.delete_key(""))

    def test_the_watch_sees_a_tree_that_is_deleted(self):
        self.watched_loss(lambda _: self.delete_tree())

    def test_what_was_given_up_is_not_watched(self):
        a = self.holder()
        a.ok("release")
        self.assertCode(a.call("watch"), "ECANCELED")

    def test_a_watch_without_a_server_is_no_loss(self):
        server = self.new_server()
        try:
            a = self.node("a", server=server)
            a.ok("acquire")
            server.kill()
            self.assertCode(a.call("watch"), self.SERVER_IS_GONE)
            self.assertGreater(a.left_ms(), 0)
        finally:
            server.close()

    # --- handing over ---

    def test_an_offer_is_taken_over(self):
        a, b, c = self.holder(), self.node("b"), self.node("c")
        term = a.ok("read").term
        token = a.ok("offer").token
        self.assertIsNone(a.left_ms())
        self.assertCode(c.call("acquire"), "E_NOT_PRIMARY")
        got = b.ok("take-over " + token)
        self.assertGreater(got.term, term)
        self.assertGreater(b.left_ms(), 0)
        seen = c.ok("read")
        self.assertEqual((seen.hostname, seen.term, seen.session), ("b", got.term, got.session))
        self.assertCode(a.call("renew"), "E_NOT_PRIMARY")
        a.ok("release")  # of what is no longer its own
        b.ok("renew")
        self.assertCode(c.call("take-over " + token), "E_NOT_PRIMARY")
        b.ok("renew")
        b.ok("release")
        self.assertGreater(c.ok("acquire").term, got.term)

    def test_an_offer_that_nobody_takes_is_taken_back(self):
        a = self.holder()
        term = a.ok("read").term
        self.assertGreater(a.ok("take-over " + a.ok("offer").token).term, term)
        a.ok("renew")
        self.assertGreater(a.left_ms(), 0)

    def test_an_offer_that_is_withdrawn_is_a_release(self):
        a, b = self.node("a"), self.node("b")
        term = a.ok("acquire").term
        token = a.ok("offer").token
        a.ok("withdraw " + token)
        seen = b.ok("read")
        self.assertEqual((seen.has_holder, seen.is_released, seen.last_term), (False, True, term))
        self.assertCode(b.call("take-over " + token), "E_NOT_PRIMARY")
        b.ok("acquire")

    def test_an_offer_that_was_taken_over_is_not_withdrawn(self):
        a, b = self.node("a"), self.node("b")
        a.ok("acquire")
        token = a.ok("offer").token
        b.ok("take-over " + token)
        a.ok("withdraw " + token)
        b.ok("renew")

    def test_an_offer_that_nobody_takes_can_be_broken(self):
        a, b = self.holder(), self.node("b")
        token = a.ok("offer").token
        self.break_stale(b)
        self.assertCode(b.call("take-over " + token), "E_NOT_PRIMARY")
        b.ok("acquire")

    def test_what_was_not_offered_is_not_taken_over(self):
        a, b = self.holder(), self.node("b")
        for token in ("", "0", "00000000-0000-0000-0000-000000000000", "123", "../x", "x y"):
            self.assertCode(b.call("take-over " + token), "E_NOT_PRIMARY")
        a.ok("renew")

    def test_without_a_lease_there_is_nothing_to_offer(self):
        a = self.holder()
        a.ok("release")
        self.assertCode(a.call("offer"), "E_NOT_PRIMARY")

    # --- the cluster's id ---

    def test_the_first_cluster_id_stays(self):
        a, b = self.node("a"), self.node("b")
        self.assertEqual(a.ok("get-id").id, "")
        self.assertEqual(a.ok("put-id LFSC0123456789ABCDEF").id, "LFSC0123456789ABCDEF")
        self.assertEqual(b.ok("put-id LFSCFFFFFFFFFFFFFFFF").id, "LFSC0123456789ABCDEF")
        self.assertEqual(b.ok("get-id").id, "LFSC0123456789ABCDEF")
        b.ok("acquire")
        b.ok("release")
        self.assertEqual(b.ok("get-id").id, "LFSC0123456789ABCDEF")

    def test_of_many_cluster_ids_one_is_everybodys(self):
        nodes = [self.node(f"n{i}") for i in range(6)]
        for i, n in enumerate(nodes):
            n.send(f"put-id LFSC{i:016X}")
        ids = {n.receive().id for n in nodes}
        self.assertEqual(len(ids), 1)
        self.assertEqual({nodes[0].ok("get-id").id}, ids)

    # --- the server is gone ---

    def test_a_server_that_was_killed_refuses(self):
        server = self.new_server()
        try:
            a, b = self.node("a", server=server), self.node("b", server=server)
            a.ok("acquire")
            server.kill()
            for n, line in ((a, "renew"), (b, "read"), (b, "acquire")):
                answer = n.call(line)
                self.assertCode(answer, "ECONNREFUSED", "Connection refused")
            self.assertGreater(a.left_ms(), 0)
            a.ok("release")
            self.assertIsNone(a.left_ms())
        finally:
            server.close()
