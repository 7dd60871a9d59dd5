"""What is written in other languages, and programs that keep their own things in SQLite: each does in the mount what it does in a
plain directory, says the same, and the log holds what it has left."""
import os
import shutil
import subprocess
import sys

import litefs_fixture
from litefs_fixture import Node

PYTHON = "/usr/bin/python3"  # for which Debian's modules are
NODE_MODULE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../build/node/node_modules/@photostructure/sqlite")


def need(*commands):
    """Each says by its exit status whether it is there."""
    for command in commands:
        if subprocess.run(command, shell=True, capture_output=True, check=False).returncode != 0:
            print(f"skipped: `{command}` fails (scripts/setup --cluster-tests installs what it needs)", flush=True)
            sys.exit(77)


def run(argv, cwd, env=None, stdin=None):
    r = subprocess.run(argv, cwd=cwd, env={**os.environ, **(env or {})}, input=stdin, capture_output=True, text=True, timeout=240,
                       check=False)
    assert r.returncode == 0, f"{argv}: exit status {r.returncode}\n{r.stdout}{r.stderr}"
    return r.stdout


def databases(directory):
    for where, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(where, name)
            with open(path, "rb") as f:
                if f.read(16) == b"SQLite format 3\0":
                    yield os.path.relpath(path, directory)


def same_in_both(work, at_least=1):
    """`work(directory)` in a plain directory and in the mount; what it returns must be the same."""
    with Node() as n:
        plain = os.path.join(n.root, "plain")
        os.mkdir(plain)
        want, seen = work(plain), work(n.mnt)
        assert seen == want, f"in the mount:\n{seen}\nin a plain directory:\n{want}"
        assert sorted(tree(n.mnt)) == sorted(tree(plain)), (sorted(tree(n.mnt)), sorted(tree(plain)))
        found = list(databases(n.mnt))
        assert len(found) >= at_least, found
        for name in found:
            n.check(name)
        n.restart()
        for name in found:
            n.check(name)


def tree(directory):
    """Without companions: rpm leaves them behind when it renames its database, and a rename in the mount does not take them along
    (what they held is in the database then)."""
    for where, directories, names in os.walk(directory):
        for name in directories + names:
            if not name.endswith(("-wal", "-shm", "-journal")):
                yield os.path.relpath(os.path.join(where, name), directory)


def script(directory, name, text):
    """Beside the directory, so that it is no part of what is compared."""
    path = os.path.join(os.path.dirname(directory), name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


PERL = r"""
use strict; use DBI;
for my $mode ('delete', 'wal') {
  my @on = map { DBI->connect("dbi:SQLite:dbname=$mode.db", '', '', {RaiseError => 1, AutoCommit => 1}) } 1 .. 2;
  $_->do('pragma busy_timeout=20000') for @on;
  $on[0]->do("pragma journal_mode=$mode");
  $on[0]->do('create table t(a integer primary key, b)');
  for my $i (1 .. 40) {
    my $c = $on[$i % 2];
    $c->begin_work;
    $c->do('insert into t values(?, ?)', undef, $i, 'x' x ($i * 100));
    $i % 5 ? $c->commit : $c->rollback;
  }
  $on[1]->sqlite_backup_to_file("$mode-copy.db");
  print "$mode: @{$on[0]->selectrow_arrayref('select count(*), sum(length(b)) from t')}\n";
  print "@{$on[1]->selectrow_arrayref('pragma integrity_check')}\n";
  $_->disconnect for @on;
}
"""


def test_perl():
    need("perl -MDBD::SQLite -e 1")
    same_in_both(lambda d: run(["perl", script(d, "t.pl", PERL)], d), 4)


PHP = r"""<?php
foreach (['delete', 'wal'] as $mode) {
  $p = new PDO("sqlite:$mode.db"); $p->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
  $p->exec('pragma busy_timeout=20000'); $p->query("pragma journal_mode=$mode")->fetchAll();
  $p->exec('create table t(a integer primary key, b)');
  $s = $p->prepare('insert into t(b) values(?)');
  for ($i = 1; $i <= 40; $i++) { $p->beginTransaction(); $s->execute([str_repeat('y', $i * 100)]); $i % 5 ? $p->commit() : $p->rollBack(); }
  $q = new SQLite3("$mode.db"); $q->busyTimeout(20000);
  $q->exec("update t set b = b || 'z' where a % 2");
  $to = new SQLite3("$mode-copy.db"); $q->backup($to); $to->close();
  echo $mode, ': ', implode(' ', $p->query('select count(*), sum(length(b)) from t')->fetch(PDO::FETCH_NUM)), ' ',
    $q->querySingle('pragma integrity_check'), "\n";
  $q->close(); $s = null; $p = null;
}
"""


def test_php():
    need("php -r 'new PDO(\"sqlite::memory:\"); new SQLite3(\":memory:\");'")
    same_in_both(lambda d: run(["php", script(d, "t.php", PHP)], d), 4)


RUBY = r"""
require 'sqlite3'
%w[delete wal].each do |mode|
  a, b = 2.times.map { SQLite3::Database.new("#{mode}.db").tap { |c| c.busy_timeout = 20_000 } }
  a.execute("pragma journal_mode=#{mode}")
  a.execute('create table t(a integer primary key, b)')
  (1..40).each do |i|
    c = i.odd? ? a : b
    c.transaction
    c.execute('insert into t(b) values(?)', ['r' * (i * 100)])
    i % 5 == 0 ? c.rollback : c.commit
  end
  puts "#{mode}: #{b.execute('select count(*), sum(length(b)) from t')} #{a.execute('pragma integrity_check')}"
  [a, b].each(&:close)
end
"""


def test_ruby():
    need("ruby -rsqlite3 -e 1")
    same_in_both(lambda d: run(["ruby", script(d, "t.rb", RUBY)], d), 2)


RAILS = r"""
require 'active_record'
ActiveRecord::Base.establish_connection(adapter: 'sqlite3', database: 'app.sqlite3', timeout: 20_000, pool: 4)
ActiveRecord::Migration.verbose = false
ActiveRecord::Schema.define do
  create_table(:users) { |t| t.string :name, null: false, index: { unique: true } }
  create_table(:posts) { |t| t.references :user, foreign_key: true; t.text :body }
end
class User < ActiveRecord::Base; has_many :posts; end
class Post < ActiveRecord::Base; belongs_to :user; end
4.times.map do |n|
  Thread.new do
    ActiveRecord::Base.connection_pool.with_connection do
      10.times { |i| ActiveRecord::Base.connection.execute('begin immediate'); u = User.new(name: "#{n}-#{i}"); u.save!
                     u.posts.create!(body: 'b' * 3000); ActiveRecord::Base.connection.execute('commit') }
    end
  end
end.each(&:join) if ARGV[0] == 'threads'
User.transaction { User.create!(name: 'kept').posts.create!(body: 'x') }
begin
  User.transaction { User.create!(name: 'lost'); User.create!(name: 'kept') }
rescue ActiveRecord::RecordNotUnique
end
ActiveRecord::Schema.define { change_table(:posts) { |t| t.change :body, :string, limit: 5000 }; add_column :users, :age, :integer }
puts "#{User.count} #{Post.count} #{User.where(name: 'lost').exists?} #{User.columns.map(&:name)}"
puts ActiveRecord::Base.connection.select_value('pragma integrity_check')
"""


def test_active_record():
    need("ruby -rsqlite3 -ractive_record -e 1")
    same_in_both(lambda d: run(["ruby", script(d, "t.rb", RAILS)], d))


GO = r"""
package main

import (
	"database/sql"
	"fmt"
	"sync"

	_ "github.com/mattn/go-sqlite3"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	for _, mode := range []string{"delete", "wal"} {
		db, err := sql.Open("sqlite3", "file:"+mode+".db?_busy_timeout=60000&_txlock=immediate&_journal_mode="+mode)
		check(err)
		_, err = db.Exec("create table t(a integer primary key, b)")
		check(err)
		var wg sync.WaitGroup
		for w := 0; w < 4; w++ {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i := 1; i <= 10; i++ {
					tx, err := db.Begin()
					check(err)
					_, err = tx.Exec("insert into t(b) values(zeroblob(?))", i*100)
					check(err)
					if i%5 == 0 {
						check(tx.Rollback())
					} else {
						check(tx.Commit())
					}
				}
			}()
		}
		wg.Wait()
		var n, size int
		var sound string
		check(db.QueryRow("select count(*), sum(length(b)) from t").Scan(&n, &size))
		check(db.QueryRow("pragma integrity_check").Scan(&sound))
		fmt.Println(mode, n, size, sound)
		check(db.Close())
	}
}
"""


def test_go():
    need("go version", "test -d /usr/share/gocode/src/github.com/mattn/go-sqlite3")
    with Node() as n:
        program = os.path.join(n.root, "program")
        env = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": os.path.join(n.root, "cache"), "GOFLAGS": ""}
        run(["go", "build", "-tags", "libsqlite3", "-o", program, script(n.mnt, "t.go", GO)], n.root, env)
        kept = shutil.copy(program, n.root + "-go")
    try:
        same_in_both(lambda d: run([kept], d), 2)
    finally:
        os.unlink(kept)


NODE = r"""
const { Worker, isMainThread, workerData } = require('node:worker_threads');
const { DatabaseSync } = require(process.env.SQLITE_MODULE);
function open(name) {
  const c = new DatabaseSync(name);
  c.exec('pragma busy_timeout=60000');
  return c;
}
function write(c, by) {
  const insert = c.prepare('insert into t(b) values(?)');
  for (let i = 1; i <= 6; i++) {
    c.exec('begin immediate');
    insert.run(by + 'x'.repeat(i * 100));
    c.exec(i % 5 ? 'commit' : 'rollback');
  }
}
async function main() {
  for (const mode of ['delete', 'wal']) {
    const c = open(mode + '.db');
    c.exec('pragma journal_mode=' + mode);
    c.exec('create table t(a integer primary key, b)');
    await Promise.all([1, 2].map((by) => new Promise((ended, failed) => {
      const w = new Worker(__filename, { workerData: { name: mode + '.db', by } });
      w.on('error', failed);
      w.on('exit', ended);
    })));
    c.exec(`vacuum into '${mode}-copy.db'`);
    const d = open(mode + '-copy.db');
    for (const of of [c, d]) {
      console.log(mode, JSON.stringify(of.prepare('select count(*) n, sum(length(b)) size from t').get()),
        JSON.stringify(of.prepare('pragma integrity_check').all()));
      of.close();
    }
  }
}
if (isMainThread) {
  main();
} else {
  const c = open(workerData.name);
  write(c, workerData.by);
  c.close();
}
"""


def test_node():
    """With the SQLite that the module brings, which is a later one than Debian's."""
    need("node --version", f"node -e 'require(\"{NODE_MODULE}\")'")
    same_in_both(lambda d: run(["node", script(d, "t.js", NODE)], d, {"SQLITE_MODULE": NODE_MODULE}), 4)


def test_rpm():
    """Its database is renamed, and its directory with it, when it is made anew."""
    need("rpm --version")

    def work(d):
        at = os.path.join(d, "rpm")
        os.mkdir(at)
        said = ""
        for command in ("--initdb", "--rebuilddb", "-qa", "--verifydb", "--rebuilddb"):
            said += run(["rpm", "--dbpath", at, "--define", "_db_backend sqlite", command], d)
        assert os.path.exists(os.path.join(at, "rpmdb.sqlite")), os.listdir(at)
        return said
    same_in_both(work)


PROGRAM = "import sys\nif len(sys.argv) > 1:\n    print('more')\nelse:\n    print('less')\n"


def test_coverage():
    need(f"{PYTHON} -c 'import coverage'")

    def work(d):
        program = script(d, "covered.py", PROGRAM)
        for more in ([], ["x"]):
            run([PYTHON, "-m", "coverage", "run", "--parallel-mode", program, *more], d)
        said = run([PYTHON, "-m", "coverage", "combine"], d).count("Combined data file")
        return said, run([PYTHON, "-m", "coverage", "report"], d).splitlines()[-1]
    same_in_both(work)


SETTINGS = """
import sys
from django.conf import settings
settings.configure(SECRET_KEY="x", INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"], USE_TZ=True,
                   DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "app.sqlite3",
                                          "OPTIONS": {"timeout": 20}, "TEST": {"NAME": "test.sqlite3"}}})
import django
django.setup()
from django.core.management import call_command
from django.db import connection, transaction, IntegrityError
from django.contrib.auth.models import Group, User
call_command("migrate", verbosity=0)
for i in range(20):
    with transaction.atomic():
        User.objects.create_user(f"u{i}").groups.add(Group.objects.get_or_create(name=f"g{i % 3}")[0])
try:
    with transaction.atomic():
        Group.objects.create(name="lost")
        with transaction.atomic():
            Group.objects.create(name="g0")
except IntegrityError:
    pass
User.objects.filter(username__endswith="1").delete()
connection.creation.create_test_db(verbosity=0)
print("test database:", User.objects.count())
connection.creation.destroy_test_db("app.sqlite3", verbosity=0)
connection.close()
connection.settings_dict["NAME"] = "app.sqlite3"
print(User.objects.count(), sorted(g.name for g in Group.objects.all()))
call_command("flush", interactive=False, verbosity=0)
print(User.objects.count())
"""


def test_django():
    need(f"{PYTHON} -c 'import django'")
    same_in_both(lambda d: run([PYTHON, script(d, "t.py", SETTINGS)], d))


if __name__ == "__main__":
    litefs_fixture.run(sys.modules[__name__])
