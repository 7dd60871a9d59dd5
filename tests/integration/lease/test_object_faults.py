"""The lease in an object where requests are lost, answered with nonsense, done late, or done and denied. The bucket is a scripted
one; test_object.py has a real one."""
import json
import time
import unittest

from contract import CALL_SLACK_MS
from lease_fixture import LeaseCase
from object_contract import ObjectNodes
from s3_server import DENY, LATE, LOSE_ANSWER, LOSE_REQUEST, Bucket, error

CALL_MS = 2000


class ObjectFaults(ObjectNodes, LeaseCase):
    TTL_MS = 8000  # calls have a quarter of it, and nothing here waits for the end of one

    def setUp(self):
        super().setUp()
        self.server = Bucket()
        self.addCleanup(self.server.close)

    def begin_again(self):
        """For the next of several cases: another object."""
        self.tearDown()
        self.setUp()

    def holder(self):
        n = self.node("a")
        n.ok("acquire")
        return n

    def fail_next(self, *faults):
        self.server.faults = list(faults)
        self.server.requests.clear()

    def assertRefused(self, answer):
        self.assertNotEqual(answer.code, "OK")
        self.assertNotEqual(answer.text, "")
        self.assertLess(answer.us / 1000, CALL_MS + CALL_SLACK_MS)

    # --- what was done, though nobody said so ---

    def test_what_was_done_counts_whatever_the_answer_was(self):
        for fault in (LOSE_ANSWER, DENY, error(500, "InternalError"), (200, b"", None)):
            done = fault in (LOSE_ANSWER, DENY)
            with self.subTest(fault=fault):
                self.begin_again()
                a = self.node("a")
                self.fail_next(fault)
                answer = a.call("acquire")
                self.assertEqual(answer.code == "OK", done, answer.text)
                if not done:
                    self.assertIsNone(a.left_ms())
                    a.ok("acquire")
                before = a.deadline_ms()
                time.sleep(0.005)
                self.fail_next(fault)
                answer = a.call("renew")
                self.assertEqual(answer.code == "OK", done, answer.text)
                self.assertEqual(a.deadline_ms() > before, done)
                self.assertEqual([r.split()[0] for r in self.server.requests], ["PUT", "GET"])
                a.ok("renew")
                self.fail_next(fault)
                a.ok("release")
                self.assertIsNone(a.left_ms())
                if done:
                    self.assertEqual(self.state()["released"], self.state()["term"])

    def test_a_renewal_that_never_came_is_made_again(self):
        a = self.holder()
        before = a.deadline_ms()
        time.sleep(0.005)
        self.fail_next(LOSE_REQUEST)
        self.assertCode(a.call("renew"), "EIO")
        self.assertEqual(a.deadline_ms(), before)
        a.ok("renew")
        self.assertGreater(a.deadline_ms(), before)

    # --- what is done late ---

    def test_an_acquisition_that_is_done_late_is_refused(self):
        a, b = self.node("a"), self.node("b")
        self.fail_next(LATE)
        self.assertCode(a.call("acquire"), "EIO")
        self.assertIsNone(a.left_ms())
        # The session was given up, and what might still make it the holder is not what the object is any more.
        self.assertEqual(self.server.do_late(), [412])
        self.assertFalse(b.ok("read").has_holder)
        b.ok("acquire")

    def test_an_acquisition_that_is_done_late_is_refused_by_a_lease_that_was_there(self):
        a, b = self.node("a"), self.node("b")
        a.ok("acquire")
        a.ok("release")
        self.fail_next(LATE, LOSE_REQUEST)  # nor can the session be given up at once
        a.ok("read")
        self.assertCode(a.call("acquire-seen"), "EIO")
        self.assertCode(a.call("acquire"), "E_NOT_PRIMARY", "an earlier session had to be ended")
        self.assertEqual(self.server.do_late(), [412])
        b.ok("acquire")
        self.assertCode(a.call("acquire"), "E_NOT_PRIMARY")

    def test_an_offer_that_could_not_be_taken_back_is_withdrawn(self):
        a, b = self.holder(), self.node("b")
        token = a.ok("offer").token
        self.fail_next(LOSE_REQUEST)
        self.assertCode(a.call("take-over " + token), "EIO")
        a.ok("withdraw " + token)
        self.assertTrue(b.ok("read").is_released)

    def test_a_late_acquisition_that_was_done_is_given_up(self):
        a, b = self.node("a"), self.node("b")
        self.fail_next(LATE, LOSE_REQUEST)
        self.assertCode(a.call("acquire"), "EIO")
        self.assertEqual(self.server.do_late(), [200])
        self.assertTrue(b.ok("read").has_holder)
        self.assertIsNone(a.left_ms())
        self.assertCode(a.call("acquire"), "E_NOT_PRIMARY", "an earlier session had to be ended")
        self.assertTrue(b.ok("read").is_released)
        b.ok("acquire")

    def test_renewals_and_breaks_that_are_done_late_are_refused(self):
        a, b = self.holder(), self.node("b")
        self.fail_next(LATE)
        self.assertCode(a.call("renew"), "EIO")
        a.ok("renew")
        self.assertEqual(self.server.do_late(), [412])
        b.ok("read")
        self.fail_next(LATE)
        self.assertCode(b.call("break"), "EIO")
        a.ok("renew")
        self.assertEqual(self.server.do_late(), [412])
        a.ok("renew")

    def test_a_renewal_that_is_done_late_is_found_by_the_next(self):
        a = self.holder()
        before = a.deadline_ms()
        time.sleep(0.005)
        self.fail_next(LATE)
        self.assertCode(a.call("renew"), "EIO")
        self.assertEqual(self.server.do_late(), [200])
        a.ok("renew")
        self.assertGreater(a.deadline_ms(), before)

    # --- what others change meanwhile ---

    def test_what_others_write_meanwhile_costs_no_lease(self):
        a = self.holder()
        self.change(lambda root: root.update({"cluster-id": "LFSC0123456789ABCDEF"}))
        a.ok("renew")
        self.assertEqual(a.ok("get-id").id, "LFSC0123456789ABCDEF")
        self.assertEqual(a.ok("put-id LFSCFFFFFFFFFFFFFFFF").id, "LFSC0123456789ABCDEF")
        a.ok("renew")

    def test_an_object_that_was_put_back_to_what_it_was_is_another(self):
        """By a bucket's versions: what is written from there on has other marks than what was written the first time."""
        a, b = self.holder(), self.node("b")
        old = self.server.read(self.key)
        a.ok("renew")
        seen = b.ok("read")
        self.server.write(self.key, old)
        a.ok("renew")
        now = b.ok("read")
        self.assertEqual((now.session, now.renewal >> 20), (seen.session, seen.renewal >> 20))
        self.assertNotEqual(now.renewal, seen.renewal)

    # --- nonsense ---

    def test_nonsense_to_every_call(self):
        for nonsense in (error(500, "InternalError"), error(503, "SlowDown"), error(409, "ConditionalRequestConflict"),
                         error(400, "InvalidArgument"), error(403, "AccessDenied"), error(412, "PreconditionFailed"),
                         (301, b"", None), (204, b"", None), (200, b"", None), (200, b"{", '"e"'), (200, b"[]", '"e"'),
                         (200, b'{"revision":-1}', '"e"'), (200, b'{"revision":4611686018427387904}', '"e"'),
                         (200, b'{"revision":1,"holder":5}', None), (200, b"[" * 5000, '"e"'), (200, b"x" * 9000000, '"e"'),
                         (404, b"<Error><Code>NoSuchBucket</Code></Error>", None), LOSE_REQUEST):
            with self.subTest(nonsense=str(nonsense)[:60]):
                self.begin_again()
                a, b = self.holder(), self.node("b")
                b.ok("read")
                before = a.deadline_ms()
                is_etag = isinstance(nonsense, tuple) and len(nonsense) == 3 and nonsense[2] is not None
                self.server.every = nonsense
                for verb in () if is_etag else ("renew", "offer"):  # a PUT with 200 and an ETag is done
                    answer = a.call(verb)
                    self.assertRefused(answer)
                    # Nobody said that it is lost, and nobody that it was renewed.
                    self.assertNotEqual(answer.code, "E_NOT_PRIMARY")
                    self.assertEqual(a.deadline_ms(), before)
                for verb in ("read", "get-id", "put-id LFSC0123456789ABCDEF", "break", "raise-term 7", "acquire", "take-over 7"):
                    self.assertRefused(b.call(verb))
                    self.assertIsNone(b.left_ms())
                self.assertLess(a.ok("release").us / 1000, CALL_MS + CALL_SLACK_MS)
                self.assertIsNone(a.left_ms())

    def test_a_clock_that_is_wrong_is_corrected_by_the_bucket(self):
        a = self.holder()
        self.fail_next(error(403, "RequestTimeTooSkewed"))
        a.ok("renew")
        self.assertEqual([r.split()[0] for r in self.server.requests], ["PUT", "PUT"])

    # --- by which form of the ETag ---

    def test_who_has_not_probed_finds_the_form_of_the_etag(self):
        """A node that goes on after an upgrade, and one whose bucket did not answer at its start."""
        self.server.quotes = False
        a, b = (self.node(name, tried="false") for name in "ab")
        a.ok("acquire")
        a.ok("renew")
        a.ok("hand-on")
        a.ok("renew")
        self.fail_next()
        a.ok("renew")
        self.assertEqual([r.split()[0] for r in self.server.requests], ["PUT"])
        a.ok("hand-on")
        a.ok("release")
        self.assertTrue(b.ok("read").is_released)
        a.ok("acquire")
        b.ok("read")
        b.ok("break")
        b.ok("read")
        b.ok("raise-term 7")
        # It may be another bucket by now.
        self.server.quotes = True
        b.ok("put-id LFSC0123456789ABCDEF")

    # --- what it costs ---

    def test_a_renewal_is_one_request_and_a_look_is_one(self):
        a, b = self.holder(), self.node("b")
        a.ok("renew")
        self.fail_next()
        a.ok("renew")
        a.ok("renew")
        b.ok("read")
        self.assertEqual([r.split()[0] for r in self.server.requests], ["PUT", "PUT", "GET"])

    # --- what is no place for it ---

    def made(self, **options):
        n = self.node("a", **options)
        self.nodes.remove(n)
        self.assertEqual(n.close(), 0 if n.made.code == "OK" else 1)
        return n.made

    def test_a_bucket_that_ignores_conditions_is_refused(self):
        self.server.honours = False
        self.assertCode(self.made(), "E_CONFIG", "the bucket does not honour If-None-Match or If-Match")
        self.assertCode(self.made(tried="false"), "OK")
        # Not by a node that could not ask at its start, either.
        self.server.pause()
        n = self.node("a")
        self.assertCode(n.made, "OK")
        self.server.resume()
        self.assertCode(n.call("acquire"), "E_CONFIG", "the bucket does not honour")
        self.assertIsNone(self.server.read(self.key))
        self.server.honours = True
        n.ok("acquire")

    def test_a_bucket_that_answers_conditions_with_501_is_refused(self):
        self.server.honours = None
        self.assertCode(self.made(), "E_CONFIG", "the bucket does not honour If-None-Match or If-Match")
        n = self.node("a", tried="false")
        self.assertCode(n.call("acquire"), "E_CONFIG", "the bucket does not honour")
        # That code of a lease says that it keeps no cluster id at all.
        answer = n.call("put-id LFSC0123456789ABCDEF")
        self.assertNotIn(answer.code, ("OK", "EOPNOTSUPP", "ENOTSUP"), answer.text)
        self.assertIsNone(self.server.read(self.key))

    def test_a_key_of_encryption_does_not_stand_in_the_url(self):
        made = self.made(url=self.server.lease_url(self.key) + "&sseCustomerKey=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE%3D")
        self.assertCode(made, "E_CONFIG", "sseCustomerKey")
        self.assertNotIn("MDEyMzQ1", made.text)

    def test_what_went_well_leaves_no_error(self):
        """The object is not there yet; then a PUT that was done is denied, and one is done by the other form of the ETag."""
        a = self.node("a")
        for verb in ("read", "acquire"):
            answer = a.ok(verb)
            self.assertEqual(answer.text, "", verb)
        self.fail_next(DENY)
        self.assertEqual(a.ok("renew").text, "")
        self.server.quotes = False
        self.assertEqual(a.ok("renew").text, "")

    def test_what_is_wrong_is_said(self):
        for url in ("", "x", "s3://", "s3://b", "s3://b/", "s3:///k", "s3://b/k/", "s3://b/k/?region=r", "file:///x", "s3://b/" + "k" * 600):
            with self.subTest(url=url[:40]):
                self.assertCode(self.made(url=url), "E_CONFIG", "lease.object.url: ")
        self.assertCode(self.made(access_key_id=""), "E_CONFIG", "lease.object: ")
        self.server.every = error(403, "AccessDenied")
        self.assertCode(self.made(), "EACCES", "403 AccessDenied")
        self.server.every = error(404, "NoSuchBucket")
        self.assertCode(self.made(), "ENXIO", "404 NoSuchBucket")

    def test_a_slow_bucket_is_probed_all_the_same(self):
        """For the probe a call has no time; for what comes then it has."""
        n = self.node("a", tried="false")
        self.server.delay_s = CALL_MS / 1000 * 0.28
        answer = n.call("acquire")
        if answer.code != "OK":
            self.assertCode(answer, "ETIMEDOUT")
            n.ok("acquire")

    def test_what_is_there_and_no_lease_is_left_alone(self):
        for text in (b"", b"hello", b"[]", b'{"term": 3}', b'{"revision":4398046511104}'):
            with self.subTest(text=text):
                self.server.write(self.key, text)
                a = self.node("a")
                for verb in ("read", "acquire", "put-id LFSC0123456789ABCDEF"):
                    self.assertCode(a.call(verb), "E_FORMAT", "is not a lease that litefs wrote")
                self.assertEqual(self.server.read(self.key), text)

    def test_an_object_that_is_not_there_is_made_by_the_first_term_alone(self):
        a = self.node("a")
        a.ok("read")
        self.assertCode(a.call("raise-term 7"), "E_NOT_FOUND", "was in a term already")
        self.assertIsNone(self.server.read(self.key))
        self.server.write(self.key, b"{}")
        a.ok("read")
        a.ok("raise-term 7")
        a.ok("read")
        self.assertEqual(a.ok("acquire-seen").term, 8)
        self.assertEqual(json.loads(self.server.read(self.key))["heir"], a.ok("read").session)

    def test_an_object_that_is_removed_is_a_lost_lease(self):
        a = self.holder()
        self.server.write(self.key, None)
        self.assertCode(a.call("renew"), "E_NOT_PRIMARY")
        self.assertIsNone(a.left_ms())
        self.assertIsNone(self.server.read(self.key))


if __name__ == "__main__":
    unittest.main(verbosity=2)
