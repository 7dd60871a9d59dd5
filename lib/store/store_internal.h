/* lib/store/store_internal.h - what a store consists of; for its files only.
 *
 *   store.c                                  open and close; housekeeping
 *   store_role.c                             what the node's role means for it
 *   groups.c renames.c sync_all.c and others what is done with several databases
 *   store_dbs.c                              the databases: found, made, opened
 *   store_env.c                              what they ask of their surroundings
 *   spare.c authority.c db_list.c
 *
 * They call each other downwards. */
#ifndef LITEFS_STORE_STORE_INTERNAL_H
#define LITEFS_STORE_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/backoff.h"
#include "base/workers.h"
#include "store/authority.h"
#include "store/db_list.h"
#include "store/housekeeper.h"
#include "store/rename_intents.h"
#include "store/renames.h"
#include "store/store.h"

/* Closing what idle databases have open (spare.c). */
struct spare {
        struct work work;
        atomic_bool is_posted, is_over;
        pthread_mutex_t lock;       /* of the hand: one at a time */
        size_t hand;                /* the database that is next in turn */
        pthread_mutex_t count_lock; /* a leaf; of what follows */
        int64_t counted_ms;
        unsigned n_open, n_since;
        struct trouble refused; /* what would have been opened */
};

struct store {
        struct store_config config;
        struct db_env env;
        struct db_meters meters;
        struct lease *lease;
        struct housekeeper *housekeeper;
        pthread_mutex_t create_lock; /* one database is made at a time; rank above that of dbs */
        struct db_list dbs;
        struct spare spare;
        int lock_fd;
        pthread_mutex_t role_lock; /* guards holder; lowest rank */
        struct lease_state holder;
        struct authority authority;
        atomic_uint_fast64_t confirmed_term, known_term;
        atomic_llong contact_ms; /* CLOCK_BOOTTIME; 0: never */
        void *listener_arg;
        void (*listener)(void *arg, struct db *db);
        _Atomic uint32_t group_slots; /* files for their notes that are in use, a bit each (groups.c) */
        bool is_first_start;
        atomic_ullong ownership_version;
        struct rename_notes renames;
        struct rename_intents intents;
        struct db_rename_detach detach; /* of a mount, or of zeros */
        char *files_dir;
        char *tmp_dir;
};

/* --- store.c --- */
/* Once nobody else changes the list of databases: housekeeping keeps to those that it has. */
int store_start_housekeeping(struct store *s, struct err *e);

/* --- store_env.c --- */
void store_fill_env(struct store *s, uint64_t node_id);
/* To whoever hears of commits. */
void store_tell_committed(struct store *s, struct db *db);

/* --- store_dbs.c --- */
/* Those that the data directory has. One that does not open is entered as broken. */
int store_open_dbs(struct store *s, struct err *e);

/* --- store_role.c --- */
/* Only upwards. */
void store_set_confirmed_term(struct store *s, uint64_t term);
#endif
