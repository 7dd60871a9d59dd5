/* cmd/litefs/doctor.h - what is wrong with a node, or could be, found by looking from outside; for doctor*.c only.
 *
 * Works while the node runs and while it does not, changes nothing, and ends even when the mount or a server does not
 * answer. A finding is one line, and what is not OK names the next command to type. */
#ifndef LITEFS_CMD_DOCTOR_H
#define LITEFS_CMD_DOCTOR_H

#include <jansson.h>
#include <stdbool.h>

#include "cmd/litefs/client.h"
#include "cmd/litefs/config.h"
#include "lease/lease.h"
#include "ltx/pos.h"

enum doctor_level { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL };

struct doctor {
        struct client client;
        bool has_client;
        struct config config;
        json_t *findings; /* array of objects: level, check, text, next */

        int lock_pid; /* of the litefs that holds DATA/lock; 0: none does */
        /* What the running node says, and its primary; NULL when they do not. */
        json_t *info, *databases, *primary_info;
        struct lease_state holder; /* as the lease service says */
        char lease_cluster_id[LEASE_CLUSTER_ID_SIZE];
        bool is_lease_known;
};

/* --- doctor_findings.c --- */

/* @next is the command to type, NULL or "" for none; @fmt says what was found. */
void doctor_add(struct doctor *d, enum doctor_level level, const char *check, const char *next,
                const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* One line for each, when @is_quiet without what is in order. */
void doctor_print(const struct doctor *d, bool is_quiet);
int doctor_print_json(const struct doctor *d);
bool doctor_has_failed(const struct doctor *d);

/* --- the parts, in this order --- */

/* doctor_host.c: /dev/fuse, privileges, the mount, free space, the listening address, file descriptors. */
void doctor_check_fuse(struct doctor *d);
void doctor_check_mount(struct doctor *d);
void doctor_check_space(struct doctor *d);
void doctor_check_address(struct doctor *d);
/* Of the litefs that runs: after doctor_check_data. Both. */
void doctor_check_users(struct doctor *d);
void doctor_check_descriptors(struct doctor *d);

/* doctor_data.c: the data directory, who holds its lock, each database's files. */
void doctor_check_data(struct doctor *d);
/* The position of the database @name as its files have it: 1, 0 when it has none, else an error. */
int doctor_local_position(const struct doctor *d, const char *name, struct ltx_pos *ret, struct err *e);
/* Calls @fn with the name of each database that has a directory. */
void doctor_each_database(const struct doctor *d, void (*fn)(void *arg, const char *name), void *arg);
/* Whether the log of @name has led through @pos: 1, 0, or -1 when that cannot be told. */
int doctor_has_been_at(const struct doctor *d, const char *name, struct ltx_pos pos);

/* doctor_cluster.c: the running node, the lease, clocks, the cluster's id, positions. */
void doctor_check_node(struct doctor *d);
void doctor_check_lease(struct doctor *d);
void doctor_check_clock(struct doctor *d);
void doctor_check_cluster_id(struct doctor *d);
void doctor_check_positions(struct doctor *d);

/* doctor_backup.c: the destinations of backups. */
void doctor_check_backups(struct doctor *d);

#endif
