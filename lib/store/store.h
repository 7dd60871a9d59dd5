/* lib/store/store.h - all databases of a node, and whether this node may write.
 *
 * DATA/ lock           held by the running daemon
 *       dbs/DIR/       one database (lib/db/db.h, names by dbname.h)
 *       renames/       what a rename is about to do (rename_note.h)
 *       groups/        notes of commits over several databases that are under way (groups.h)
 *       orphans/       directories of databases that were set aside (orphans.h)
 *       node-id        by which this node knows its own transactions (node_id.h)
 *       files/         the mount's directories and plain files
 *       tmp/           files of huge open transactions; emptied at start
 *
 * Threads: any. Databases are never freed before store_close. */
#ifndef LITEFS_STORE_STORE_H
#define LITEFS_STORE_STORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "db/db.h"
#include "lease/lease.h"
#include "store/authority.h"

struct store;

struct store_config {
        const struct os *os;
        const struct clock *clock;
        struct workers *workers, *remote_committers; /* see struct db_env */
        const char *data_dir;
        bool is_compressed;
        bool is_strict;
        bool takes_wal_tail; /* see struct db_env */
        bool is_resumed;     /* likewise */
        int lock_fd; /* of DATA/lock, that the process before this one has handed over; borrowed. 0: there was none */
        bool keeps_log;                /* see struct db_env */
        int64_t retention_ms;          /* <= 0: keep everything */
        int64_t retention_interval_ms; /* <= 0: never enforce */
        const atomic_bool *is_ending;  /* see struct db_env */
        /* Callbacks into the mount, NULL when there is none: see struct db_env. */
        void *arg;
        void (*committed)(void *arg, struct db *db);
        void (*idle)(void *arg, struct db *db);
        /* About once a second while something was asked for: the mount's own timed work. */
        void (*tick)(void *arg);
};

/* Opens every database under the data directory, as a node that may not write (store_set_role). One that does not recover is reported (log) and left out;
 * the others serve. Errors: another daemon runs on the directory, the directory cannot be used. */
int store_open(const struct store_config *config, struct lease *lease, struct store **ret,
               struct err *e);
/* Ends the timed work, and with it the calls of tick: before the mount goes. Again is fine. */
void store_stop_housekeeping(struct store *s);
/* Stops housekeeping, flushes and closes every database. */
void store_close(struct store *s);
/* Replaces the callbacks; before the mount serves. */
void store_set_callbacks(struct store *s, void *arg, void (*committed)(void *, struct db *),
                         void (*idle)(void *, struct db *), void (*tick)(void *));

/* What a rename that a crash has cut short is to tell the mount. Before it serves; NULL: there is none. */
struct db_rename_detach;
void store_set_detach(struct store *s, const struct db_rename_detach *detach);

/* The database called @name, deleted ones included; NULL when there never was one. */
struct db *store_find(struct store *s, const char *name);
/* By ltx_name_hash of its name. */
struct db *store_find_hash(struct store *s, uint32_t name_hash);
/* Whether there is a file descriptor for it; if not, idle databases are about to give some back. Any lock. */
bool store_may_open(struct store *s, const char *name);
/* Whether opening @name failed, so that it must not be taken for a free name. */
bool store_is_broken(struct store *s, const char *name);
/* Finds or makes the (empty) database. -ENAMETOOLONG, or what db_open says. */
int store_create_db(struct store *s, const char *name, struct db **ret, struct err *e);
/* The same for one that did not open: what there is goes to DATA/orphans first. */
int store_replace_broken(struct store *s, const char *name, struct db **ret, struct err *e);
/* Whether any database did not open. */
bool store_has_broken(struct store *s);
/* Calls @fn for the name of each that did not, which is short and calls nothing of the store. */
void store_each_broken(struct store *s, void (*fn)(void *arg, const char *name), void *arg);
/* Calls @fn for each in name order until it returns non-zero, which is returned. */
int store_each(struct store *s, int (*fn)(void *arg, struct db *db), void *arg);
/* dbs/DIR/@file of a database, in @buf: 0 or -ENAMETOOLONG. */
int store_db_path(struct store *s, const struct db *db, const char *file, char *buf, size_t size);
const char *store_files_dir(const struct store *s);
/* Whether no litefs has used this data directory before; LiteFS may have. */
bool store_is_first_start(const struct store *s);

/* 0 when this node may commit now, else E_NOT_PRIMARY or E_FENCED. */
int store_may_commit(struct store *s);
bool store_is_primary(struct store *s);
/* The role has changed: @holder is who holds the lease as far as this node knows (NULL: nobody), and
 * @is_primary says that it is this one. Any thread. */
void store_set_role(struct store *s, bool is_primary, const struct lease_state *holder);
/* What databases are opened with. */
const struct db_env *store_env(const struct store *s);
/* Of all its databases. */
const struct db_meters *store_meters(const struct store *s);
/* The one that hears of commits besides the mount; before anything commits. */
void store_set_listener(struct store *s, void *arg, void (*committed)(void *arg, struct db *db));
/* Refuses commits while a lease is handed over. Each true needs its false. */
void store_pause_writes(struct store *s, bool is_paused);
/* Before that: who would begin a transaction waits, so that those that have begun can end. What waited is asked again by
 * whoever moves the gate (session_resume). */
void store_set_gate(struct store *s, enum authority_gate gate);
/* Nobody stands between "may commit" and its answer: during a pause it stays so. */
bool store_is_quiet(struct store *s);
/* What has been committed here by now is on the node that the lease goes to: what of it still waits for its acknowledgement
 * gets it, though the lease is gone (authority.h). False: the lease was not offered. */
void store_set_handed_over(struct store *s, bool is_handed_over);
/* This node has what its primary, that of @term, has: see db_confirm. */
void store_confirm(struct store *s, uint64_t term);
/* The last term whose primary was this node, or has confirmed that this node has all that it has; since the start. 0:
 * none. */
uint64_t store_confirmed_term(struct store *s);
/* The highest term that is known to have begun, or to be about to. */
uint64_t store_known_term(struct store *s);
/* This node, a replica, had everything at @boot_ms. */
void store_set_contact(struct store *s, int64_t boot_ms);
/* Milliseconds since then; 0 for the primary, INT32_MAX before the first contact. */
int64_t store_lag_ms(struct store *s);
/* Refuses commits from now on: shutdown. */
void store_stop_writes(struct store *s);
/* The other node that is the primary, as this one knows it: false when it knows of none or is it. */
bool store_primary(struct store *s, struct lease_state *ret);

/* Asks for a tick within about a second. Any thread, any lock. */
void store_wants_tick(struct store *s);

#endif
