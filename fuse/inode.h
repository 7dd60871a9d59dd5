/* fuse/inode.h - the nodes that the kernel knows, and their place in the tree.
 *
 * A node lives from the first lookup until the kernel has forgotten it and its children, and its handles are closed. The
 * kernel knows it by its id (id_table.h). Names are unique within a parent while linked; an unlinked node stays for the
 * handles that are open. Guarded by the session's lock. */
#ifndef LITEFS_FUSE_INODE_H
#define LITEFS_FUSE_INODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuse/id_table.h"

struct db;
struct live_nodes;
struct moment_node;

#define INODE_ROOT_ID 1u /* the kernel's, which was never told */

enum inode_kind {
        INODE_DIR,
        INODE_PLAIN,
        INODE_DB,
        INODE_JOURNAL,
        INODE_WAL,
        INODE_SHM,
        INODE_POS,
        INODE_LOCK,
        INODE_PRIMARY,
        INODE_LAG,
        INODE_MOMENT,
        INODE_HISTORY
};

struct inode {
        uint64_t id;     /* the kernel's */
        uint64_t number; /* st_ino: given once, where ids come again with another generation */
        enum inode_kind kind;
        struct inode *parent; /* holds a reference; NULL for the root */
        char *name;           /* NULL once unlinked, and for the root */
        uint64_t n_refs; /* the kernel's lookups, open handles, children, and who is at work with it */
        uint64_t n_lookups; /* of these the kernel's: how often it may forget the node */
        struct inode *next; /* hash chain */
        struct db *db;      /* of DB, JOURNAL, WAL, SHM, POS, MOMENT, HISTORY */
        int fd;             /* PLAIN, SHM; of the others only once unlinked: the old file. Else -1 */
        bool is_revoked; /* another file has its name, and what was read in this one is not true any more */
        bool is_moved; /* its name is gone, or another one's, and the kernel may not know: by name it is to be looked up anew */
        uint32_t n_handles; /* that are open */
        uint32_t n_writers; /* of which have written */
        int backing_id; /* WAL, SHM: what the kernel passes it through to (passthrough.h); 0: it does not */
        bool was_passed;            /* when it was open last: the kernel's pages of it are older */
        uint32_t n_index_users;     /* SHM: handles of applications, while it is */
        bool is_adopting;           /* PLAIN: a worker is making it a database */
        int pending_error;          /* of that worker, for the next request that would have started it */
        struct moment_node *moment; /* of MOMENT, and of HISTORY of a database (moments.h) */
        void *listing;              /* DIR: what readdir is giving out, one allocation (node_dir.c) */
};

struct inode_table {
        struct inode root;
        struct id_table ids; /* of all but the root */
        struct inode **buckets;
        size_t n_buckets;
        size_t n_inodes;
        struct live_nodes *live; /* NULL: nobody asks for them */
        uint64_t next_number;
};

int inode_table_init(struct inode_table *t);
void inode_table_release(struct inode_table *t);

/* The node that the kernel means; NULL when there is none, or none any more. */
struct inode *inode_find(struct inode_table *t, uint64_t id);
/* The kernel gives @n of its references back. False when it never had as many: it has none then. */
bool inode_forget(struct inode_table *t, struct inode *in, uint64_t n);

/* The linked child called @name, or NULL. No reference is taken. */
struct inode *inode_child(struct inode_table *t, const struct inode *parent, const char *name);
/* A new linked child with one reference; NULL when memory is out. */
struct inode *inode_add(struct inode_table *t, struct inode *parent, const char *name,
                        enum inode_kind kind, struct db *db);
/* A node that another process has made, in the empty slot of its id: nothing holds it, and it has neither place nor name
 * until inode_place_restored. NULL when memory is out. */
struct inode *inode_restore(struct inode_table *t, uint64_t id, enum inode_kind kind, struct db *db);
/* Its @parent, of which it takes a reference, and its name there; NULL: it is unlinked. -ENOMEM. */
int inode_place_restored(struct inode_table *t, struct inode *in, struct inode *parent,
                         const char *name);
void inode_ref(struct inode *in);
/* Drops @n references; frees the node (closing its fd) and drops its parent's when none is left. */
void inode_unref(struct inode_table *t, struct inode *in, uint64_t n);
/* The name is gone; the node stays for those who hold it. */
void inode_unlink(struct inode_table *t, struct inode *in);
/* Gives a linked node another place. 0 or -ENOMEM. */
int inode_rename(struct inode_table *t, struct inode *in, struct inode *parent, const char *name);

/* Whether a file at or below @top (NULL: none) is being made a database. */
bool inode_has_adopting(const struct inode_table *t, const struct inode *top);

/* The path from the root, without a leading slash ("" for the root): 0, or -ENAMETOOLONG; -ENOENT when a
 * part of it was unlinked. */
int inode_path(const struct inode *in, char *buf, size_t size);
/* The path of @name in @parent. */
int inode_child_path(const struct inode *parent, const char *name, char *buf, size_t size);

#endif
