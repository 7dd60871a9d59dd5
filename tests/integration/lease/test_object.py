"""The lease in an object of a bucket. The bucket is a scripted one, for calls have half a second; tests/integration/test_backup_s3.py
has a real one."""
import unittest

from lease_fixture import LeaseCase
from object_contract import ObjectContract
from s3_server import Bucket


class ObjectLease(ObjectContract, LeaseCase):
    new_server = Bucket


if __name__ == "__main__":
    unittest.main(verbosity=2)
