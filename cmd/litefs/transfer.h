/* cmd/litefs/transfer.h - what `litefs export` and `litefs import` have in common: one database, one file.
 *
 * The words are `DB [FILE]`, or `-name DB FILE` as for LiteFS. Without FILE, and where it is "-", the other end is the
 * command's own input or output. */
#ifndef LITEFS_CMD_TRANSFER_H
#define LITEFS_CMD_TRANSFER_H

#include "cmd/litefs/client.h"
#include "cmd/litefs/say.h"

struct transfer {
        struct client client;
        struct say say;
        const char *name, *path; /* of the database, and of the file */
        bool is_stream;          /* the file is "-" */
        char url[2048];          /* of the request */
        uint64_t done_bytes;
};

struct transfer_kind {
        struct help help;
        const char *target; /* of the request: "/export" */
        const char *noun;   /* "Export" */
        int (*run)(struct transfer *t, struct err *e);
        int stream_fd; /* that "-" means */
};

/* Parses the words, does it and says how long it took: the exit status. */
int transfer_command(const struct transfer_kind *k, int argc, char **argv);

#endif
