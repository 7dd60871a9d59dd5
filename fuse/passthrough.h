/* fuse/passthrough.h - NAME-wal and NAME-shm without us: the kernel passes reads, writes and mappings of an open file through to
 * the file in DATA/dbs/NAME (FUSE passthrough, Linux 6.9). What becomes of the commits is lib/db/passed.h's.
 *
 * The kernel gives a node one mode for as long as it is open, so the first handle decides, of NAME-wal or NAME-shm for both: on
 * the primary they are passed through. Whoever has them open when the role moves goes on as they are.
 *
 * The kernel has to offer it at INIT, and takes backing files from a process with CAP_SYS_ADMIN in the first user namespace
 * alone; where one of that is missing, one line says so, and everything is as it is without it.
 *
 * With the session's lock, but for the first. */
#ifndef LITEFS_FUSE_PASSTHROUGH_H
#define LITEFS_FUSE_PASSTHROUGH_H

#include <fuse_lowlevel.h>
#include <stdbool.h>

#include "base/err.h"

struct db;
struct handle;
struct inode;
struct session;

/* After the mount, before the first request: INIT is asked for it. */
int passthrough_set_up(struct session *s, struct err *e);
/* (carry.h) Instead, of a connection that was handed on: before INIT is read again, whether it @is_on; and once nodes and handles
 * are there. 0 or negative. */
int passthrough_take_on(struct session *s, bool is_on, struct err *e);
void passthrough_take_handle(const struct handle *h);
int passthrough_take_indexes(struct session *s);
/* Without the lock, once there is no way back: what was written meanwhile is captured from now on. */
void passthrough_watch_taken(struct session *s);
/* Before it is handed on. False: a commit waits to be published, or a database is busy; ask again once requests were
 * answered. */
bool passthrough_is_settled(struct session *s);
/* Before a handle of @in is made. 0: in->backing_id says which it is; E_BUSY; or why it cannot be opened. */
int passthrough_open(struct session *s, struct inode *in);
/* As fuse_reply_open and fuse_reply_create, for a node that is passed through. */
int passthrough_reply_open(fuse_req_t req, const struct inode *in, const struct fuse_file_info *fi);
int passthrough_reply_create(fuse_req_t req, const struct inode *in,
                             const struct fuse_entry_param *entry, const struct fuse_file_info *fi);
/* Of a handle that is being made: false when it cannot be, for want of a descriptor. And before it goes. */
bool passthrough_add_handle(const struct handle *h);
void passthrough_drop_handle(struct session *s, const struct handle *h);
/* @in is no database's any more; those who have it open go on with its file. */
void passthrough_detach(struct inode *in);

#endif
