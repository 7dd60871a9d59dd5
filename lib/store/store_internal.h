/* lib/store/store_internal.h - what a store consists of; for store*.c only. */
#ifndef LITEFS_STORE_STORE_INTERNAL_H
#define LITEFS_STORE_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "store/db_list.h"
#include "store/housekeeper.h"
#include "store/store.h"

struct store {
        struct store_config config;
        struct db_env env;
        struct db_meters meters;
        struct lease *lease;
        struct housekeeper *housekeeper;
        pthread_mutex_t create_lock; /* one database is made at a time; rank above that of dbs */
        struct db_list dbs;
        int lock_fd;
        pthread_mutex_t role_lock; /* guards holder; lowest rank */
        struct lease_state holder;
        atomic_bool is_primary;
        atomic_bool is_stopped;
        atomic_int n_pauses;
        atomic_bool is_handed_over;
        atomic_llong contact_ms; /* CLOCK_BOOTTIME; 0: never */
        void *listener_arg;
        void (*listener)(void *arg, struct db *db);
        char *files_dir;
        char *tmp_dir;
};

/* 0, or E_UNCONFIRMED: what is committed here may not be that of the cluster. */
int store_may_confirm(struct store *s);

#endif
