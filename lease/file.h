/* lease/file.h - the lease in a file, for the nodes of one machine: to try a cluster without a service.
 *
 *   PATH        the state, JSON as in docs/protocol.md, section 6; replaced as a whole
 *   PATH.lock   empty. Whoever reads or changes PATH has byte 0 locked; byte N is locked by the node that holds session N
 *   PATH.new    the state that is being written
 *
 * The kernel gives up the locks of a process that has ended, whatever ended it. So a session whose byte is free is that of a
 * node that commits no more, and the lease counts as released, without a wait. A node that is stopped keeps its lock, and
 * loses the lease as with any service: when its mark has not moved for its TTL.
 *
 * That needs locks and renames that all nodes see alike: of one kernel, and on a file system that it has to itself. Others
 * (NFS, CIFS, 9p, FUSE) are refused, and so are files of another user. */
#ifndef LITEFS_LEASE_FILE_H
#define LITEFS_LEASE_FILE_H

#include "lease/lease.h"

struct clock;

/* Borrowed for the call. NULL or "" is "not set". */
struct lease_file_options {
        const char *path;                     /* absolute; its directory is there */
        const char *hostname, *advertise_url; /* this node's, as its peers reach it */
        int64_t ttl_ms;
        const struct clock *clock; /* NULL: the machine's */
};

/* Looks at the directory; the files are made by the first change. E_CONFIG and -EINVAL with words, -ENOMEM; as open(2). */
int lease_file_new(const struct lease_file_options *options, struct lease **ret, struct err *e);

#endif
