/* lease/object.h - the lease in one object of a bucket: for a cluster that has no service but that.
 *
 * The object is the document of document.h. It is replaced as a whole, by PUT with If-Match (with If-None-Match when it is not
 * there), and never deleted: a lease that is given up says so. Each PUT has a nonce, so that no two have the same ETag, and a
 * PUT that was refused, or was not answered, is told by reading whether it was done. One that may still be on its way can be
 * done only over what it was made for: before the next session begins that is replaced.
 *
 * So the bucket has to honour conditions, which a candidate finds out by a second object, URL.probe.HOSTNAME, and reads have to
 * see the last write, wherever they are made.
 *
 * An object that is not there, while this node was in a term, is no lost lease: it may be the wrong bucket. It is not made
 * again before somebody has put an empty one, "{}". */
#ifndef LITEFS_LEASE_OBJECT_H
#define LITEFS_LEASE_OBJECT_H

#include "lease/lease.h"

struct clock;
struct s3_options;

/* Borrowed for the call, but for the sources in @bucket. */
struct lease_object_options {
        const char *url; /* s3://BUCKET/KEY, and what s3_init() takes behind it */
        const struct s3_options *bucket;
        const char *hostname, *advertise_url; /* this node's, as its peers reach it */
        int64_t ttl_ms;
        bool is_tried; /* whether the bucket honours conditions is found out now, rather than before the first acquisition */
        const struct clock *clock; /* NULL: the machine's */
        /* What was not to be had now, and is tried again: keys, an answer. Its code is 0: nothing. */
        struct err *ret_trouble;
};

/* E_CONFIG with words, also where conditions are ignored; -EACCES and -ENXIO: there is no way to the bucket; -ENOMEM. */
int lease_object_new(const struct lease_object_options *options, struct lease **ret, struct err *e);

#endif
