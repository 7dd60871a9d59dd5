/* cmd/litefs/node_flags.h - a node described by words of the command line in place of a file: `litefs mount DIR`, and
 * `litefs init`, which writes the file that says the same.
 *
 * Databases and their log are beside the mount, in DIR.litefs. Without -lease and -follow it is a node by itself. It
 * listens on this machine alone, but with a lease in a service, for then the other nodes must reach it. */
#ifndef LITEFS_CMD_NODE_FLAGS_H
#define LITEFS_CMD_NODE_FLAGS_H

#include <stdbool.h>

#include "cmd/litefs/config.h"

struct node_flags {
        const char *data, *addr, *lease, *follow, *advertise, *token_file, *backup;
        bool allow_other;
};

/* clang-format off */
#define NODE_FLAGS(f) \
        { "data", "DIR", "directory for databases and their log, else DIR.litefs beside the mount", NULL, \
          &(f)->data }, \
        { "addr", "HOST:PORT", "address to listen on, for the API and other nodes, else 127.0.0.1:20202", NULL, \
          &(f)->addr }, \
        { "lease", "URL", "lease of the primary: etcd://HOST:2379/KEY, consul://HOST:8500/KEY or file:///PATH", NULL, \
          &(f)->lease }, \
        { "follow", "URL", "follow the node at URL, http://HOST:20202, as a replica", NULL, &(f)->follow }, \
        { "advertise-url", "URL", "URL at which other nodes reach this one, else made of its host name", NULL, \
          &(f)->advertise }, \
        { "token-file", "PATH", "file with the token that all nodes share", NULL, &(f)->token_file }, \
        { "backup", "URL", "where backups go: s3://BUCKET/PREFIX or file:///PATH", NULL, &(f)->backup }, \
        { "allow-other", NULL, "let other users use the mount", &(f)->allow_other, NULL }
/* clang-format on */

/* One of the flags that is set, NULL: none is. */
const char *node_flags_any(const struct node_flags *f);
/* The flag that says what the key does, NULL: none does. */
const char *node_flags_of_key(const char *key);
/* Into @c, which has its defaults, for the mount at @dir; fills in the rest (config_resolve). The paths become absolute.
 * -EINVAL: words that contradict each other or mean nothing; else as realpath(3). Not validated yet. */
int node_flags_apply(const struct node_flags *f, const char *dir, struct config *c, struct err *e);

#endif
