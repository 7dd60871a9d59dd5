/* fuse/wal_spoil.h - the end of wal-indexes that the kernel passes through to their files (passthrough.h).
 *
 * Who has one mapped, and the WAL open, reads and commits on without litefs. To make the index invalid, as live_nodes.h does,
 * would not end that, since SQLite makes it anew from the WAL. So it is made one of a version to come: SQLite answers
 * SQLITE_CANTOPEN. A transaction that is open at that moment may publish its commit over it. */
#ifndef LITEFS_FUSE_WAL_SPOIL_H
#define LITEFS_FUSE_WAL_SPOIL_H

#include <stddef.h>

void wal_spoil(int shm_fd); /* -1: nothing */
/* All that are below DATA/dbs. The first @max descriptors stay open in @ret_fds: how many. */
size_t wal_spoil_all(const char *dbs_dir, int *ret_fds, size_t max);

#endif
