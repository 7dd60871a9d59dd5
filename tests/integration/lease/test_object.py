"""The lease in an object of a bucket. The bucket is a scripted one; tests/integration/test_backup_s3.py has a real one."""
import unittest

from lease_fixture import LeaseCase
from object_contract import ObjectContract
from s3_server import Bucket


# Tests that wait for the end of a call or of a TTL. In the others a call, a quarter of the TTL, has time for a busy machine.
WAITS = ("outlives", "hang", "unknown_outcome", "dead", "two_candidates", "stopped", "broken")


class ObjectLease(ObjectContract, LeaseCase):
    new_server = Bucket

    def setUp(self):
        super().setUp()
        is_short = any(word in self._testMethodName for word in WAITS)
        self.TTL_MS, self.CALL_MS = (2500, 625) if is_short else (12000, 3000)


if __name__ == "__main__":
    unittest.main(verbosity=2)
