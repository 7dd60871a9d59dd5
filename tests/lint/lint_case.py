"""What the tests of the lints have in common: a tree of their own, and the lint run over it."""
import os
import subprocess
import sys
import tempfile
import unittest


class LintCase(unittest.TestCase):
    SCRIPT = None  # the lint's file, beside this one

    def check(self, files):
        """The lint's end in a tree of `files`, path: text."""
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), self.SCRIPT)
        with tempfile.TemporaryDirectory() as root:
            for path, text in files.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as f:
                    f.write(text)
            return subprocess.run([sys.executable, script, root], capture_output=True, text=True, check=False)
