"""Transactions on the databases of a run: what there is, which plans clients make, and how one is carried out by SQLite."""
import os
import sqlite3
import time

ACCOUNTS, BALANCE = 6, 100
EPOCH_SECONDS = 20  # keys are new after that, so that lists stay short
KEYS = 6
ROLLBACK = ("delete", "truncate", "persist")
BUSY = 5


class Database:
    """`mode`: a journal mode; `mixed`: each connection of a rollback mode of its own; `switch`: changed while it is used."""

    def __init__(self, name, mode, page_size):
        self.name, self.mode, self.page_size = name, mode, page_size
        self.is_import = name == "import.db"

    def journal_mode(self, rng):
        return {"mixed": rng.choice(ROLLBACK), "switch": None}.get(self.mode, self.mode)


GROUPS = (("pair1.db", "pair2.db"),)


def databases(rng):
    """Of a run: every journal mode, page sizes by chance."""
    modes = {"delete.db": "delete", "truncate.db": "truncate", "persist.db": "persist", "mixed.db": "mixed", "wal1.db": "wal",
             "wal2.db": "wal", "pair1.db": "mixed", "pair2.db": "mixed", "switch.db": "switch", "import.db": "mixed"}
    return [Database(name, mode, 1 << rng.randint(9, 16)) for name, mode in modes.items()]


def create(db, path):
    c = sqlite3.connect(path, isolation_level=None, timeout=20)
    c.execute(f"pragma page_size={db.page_size}")
    if db.mode == "wal":
        c.execute("pragma journal_mode=wal")
    c.execute("begin")
    if db.is_import:
        c.execute("create table generation (n integer, pad blob)")
        c.execute("insert into generation values (0, zeroblob(100))")
    else:
        c.execute("create table list (id integer primary key, k text, v text, pad blob)")
        c.execute("create index list_k on list (k)")
        c.execute("create table account (id integer primary key, balance integer)")
        c.executemany("insert into account values (?, ?)", [(n, BALANCE) for n in range(ACCOUNTS)])
    c.execute("commit")
    c.close()


def contents(c, is_import):
    """What a `final` or `aside` record says of a database."""
    if is_import:
        return {"lists": {}, "generation": [n for (n,) in c.execute("select distinct n from generation order by n")]}
    lists = {}
    for k, v in c.execute("select k, v from list order by id"):
        lists.setdefault(k, []).append(v)
    return {"lists": lists, "bank": [b for (b,) in c.execute("select balance from account order by id")]}


# --- plans ---

class Planner:
    """Makes transactions by chance: (names of databases, how it begins, operations). Values are `who` and a number."""

    def __init__(self, rng, who, dbs, start, has_groups, large):
        self.rng, self.who, self.start, self.has_groups, self.large = rng, who, start, has_groups, large
        self.by_name = {db.name: db for db in dbs}
        self.names = [db.name for db in dbs if not db.is_import]
        self.n = 0

    def key(self):
        return f"{int((time.monotonic() - self.start) / EPOCH_SECONDS)}.{self.rng.randrange(KEYS)}"

    def value(self):
        self.n += 1
        return f"{self.who}.{self.n}"

    def begin(self):
        return self.rng.choice(("begin", "begin immediate", "begin immediate", "begin exclusive"))

    def make(self):
        kind = self.rng.choices(("append", "read", "transfer", "group", "large", "generation", "integrity", "switch"),
                                (30, 32, 15, 10 * self.has_groups, self.large, 3, 1, 1))[0]
        return getattr(self, "make_" + kind)()

    def make_writing(self):
        return getattr(self, "make_" + self.rng.choices(("append", "transfer", "group"), (6, 3, self.has_groups))[0])()

    def make_append(self):
        name = self.rng.choice(self.names)
        ops = []
        for _ in range(self.rng.choice((1, 1, 2, 3))):
            k = self.key()
            if self.rng.random() < 0.4:
                ops.append(["read", name, k, None])
            ops.append(["append", name, k, self.value(), self.rng.choice((0, 10, 100, 1500))])
            if self.rng.random() < 0.2:
                ops.append(["read", name, k, None])
        if len(ops) == 1 and self.rng.random() < 0.5:
            return (name,), None, ops
        return (name,), self.begin(), ops

    def make_large(self):
        name = self.rng.choice(self.names)
        return (name,), self.begin(), [["append", name, self.key(), self.value(), self.rng.choice((200, 900, 3000)) * 1000]]

    def make_transfer(self):
        name = self.rng.choice(self.names)
        a, b = self.rng.sample(range(ACCOUNTS), 2)
        ops = [["transfer", name, a, b, self.rng.randint(1, 20), self.value()]]
        if self.rng.random() < 0.3:
            ops = [["bank", name, None], *ops, ["bank", name, None]]
        return (name,), self.begin(), ops

    def make_group(self):
        names = self.rng.choice(GROUPS)
        ops = [["append", name, self.key(), self.value(), self.rng.choice((0, 500))] for name in names]
        return names, self.begin(), ops

    def make_read(self, pause=True):
        name = self.rng.choice(self.names)
        keys = [self.key() for _ in range(self.rng.randint(1, 3))]
        ops = [["read", name, k, None] for k in keys]
        if self.rng.random() < 0.4:
            ops += [["bank", name, None], ["read", name, "bank", None]]
        if self.rng.random() < 0.6:
            if pause:
                ops.append(["sleep", name, self.rng.choice((0.001, 0.02, 0.1, 0.7))])
            ops += [["read", name, k, None] for k in keys]
            self.rng.shuffle(ops)
        return (name,), "begin", ops

    def make_generation(self):
        return ("import.db",), None, [["generation", "import.db", None]]

    def make_integrity(self):
        name = self.rng.choice([*self.names, "import.db"])
        return (name,), None, [["integrity", name, None]]

    def make_switch(self):
        name, mode = "switch.db", self.rng.choice((*ROLLBACK, "wal"))
        sql = f"pragma journal_mode={mode}"
        if self.rng.random() < 0.3:
            sql = f"pragma page_size={1 << self.rng.randint(9, 16)}; vacuum"
        return (name,), None, [["sql", name, sql]]


def writes(ops):
    return any(o[0] in ("append", "transfer") for o in ops)


# --- carrying one out ---

def connect(db_names, by_name, directory, rng):
    """To the first; the others are attached."""
    def uri(name):
        return f"file:{os.path.join(directory, name)}?mode=rw"  # never makes a file in a directory that is not mounted
    c = sqlite3.connect(uri(db_names[0]), uri=True, isolation_level=None, timeout=rng.choice((1, 3)), check_same_thread=False)
    try:
        for n, name in enumerate(db_names):
            schema = "main" if n == 0 else f"a{n}"
            if n > 0:
                c.execute(f"attach ? as {schema}", (uri(name),))
            mode = by_name[name].journal_mode(rng)
            if mode in ROLLBACK:
                c.execute(f"pragma {schema}.journal_mode={mode}")
            c.execute(f"pragma {schema}.synchronous={rng.choice((0, 1, 2))}")
            c.execute(f"pragma {schema}.cache_size={rng.choice((4, 50, 2000))}")
            mapped = rng.choice((0, 0, 1 << 20))  # in a rollback mode the end of a mount would be SIGBUS: docs/status.md
            c.execute(f"pragma {schema}.mmap_size={mapped if by_name[name].mode == 'wal' else 0}")
    except sqlite3.Error:
        c.close()
        raise
    return c


def device(directory):
    """Another one for each mount; None where there is none that answers."""
    try:
        return os.stat(directory).st_dev
    except OSError:
        return None


def carry_out_one(c, schema, o):
    if o[0] == "append":
        c.execute(f"insert into {schema}.list (k, v, pad) values (?, ?, randomblob(?))", (o[2], o[3], o[4]))
        return o[:4]
    if o[0] == "read":
        return [*o[:3], [v for (v,) in c.execute(f"select v from {schema}.list where k = ? order by id", (o[2],))]]
    if o[0] == "transfer":
        c.execute(f"update {schema}.account set balance = balance - ? where id = ?", (o[4], o[2]))
        c.execute(f"update {schema}.account set balance = balance + ? where id = ?", (o[4], o[3]))
        c.execute(f"insert into {schema}.list (k, v) values ('bank', ?)", (o[5],))
        return o
    if o[0] == "bank":
        return [*o[:2], [b for (b,) in c.execute(f"select balance from {schema}.account order by id")]]
    if o[0] == "generation":
        return [*o[:2], [n for (n,) in c.execute(f"select distinct n from {schema}.generation order by n")]]
    if o[0] == "integrity":
        return [*o[:2], c.execute(f"pragma {schema}.integrity_check(3)").fetchone()[0]]
    if o[0] == "sql":
        for statement in o[2].split(";"):
            c.execute(statement).fetchall()
        return o
    time.sleep(o[2])
    return o


def carry_out(c, names, begin, ops):
    """(outcome, operations with what they read, error)"""
    schemas = {name: "main" if n == 0 else f"a{n}" for n, name in enumerate(names)}
    done, is_committing = [], begin is None
    try:
        if begin is not None:
            c.execute(begin)
        for o in ops:
            done.append(carry_out_one(c, schemas[o[1]], o))
        is_committing = True
        if begin is not None:
            c.execute("commit")
        return "ok", done, None
    except sqlite3.Error as e:
        code = getattr(e, "sqlite_errorcode", 0) or 0
        text = f"{getattr(e, 'sqlite_errorname', '')}: {e}"
        is_unknown = is_committing and writes(ops)
        try:
            if c.in_transaction:
                c.execute("rollback")
                # It was told before anything was final that it is to come back later, and did not.
                is_unknown = is_unknown and code & 0xff != BUSY
        except sqlite3.Error as again:
            text += f"; rollback: {again}"
        return "info" if is_unknown else "fail", done + [without_size(o) for o in ops[len(done):]], text


def without_size(o):
    return o[:4] if o[0] == "append" else o
