/* NAME-lock. To open it for writing is to ask for the database's halt lock, and to close it gives the lock back, so
 * that it goes with the process that dies. The F_OFD_SETLKW on byte 72 that LiteFS's clients make then settles, in the
 * kernel, who of this machine's processes is the one to write; locks never come here as requests (architecture.md). */
#include <errno.h>
#include <stdlib.h>

#include "fuse/fs.h"

struct halt_job {
        fuse_req_t req;
        struct handle *handle;
        struct fuse_file_info fi;
};

/* With the session's lock. */
static void
answer_open(fuse_req_t req, struct handle *h, const struct fuse_file_info *fi, int r)
{
        struct session *s = session_of(req);

        h->is_halt = r == 0;
        h->is_opening = false;
        if (r < 0)
                reply_result(req, r);
        else if (fuse_reply_open(req, fi) != -ENOENT)
                return;
        /* Refused, or whoever asked has been killed. */
        if (h->is_halt)
                halt_close(s, h);
        handle_drop(s, h);
}

static void
finish_open(void *arg, int r)
{
        struct halt_job *job = arg;
        struct session *s = session_of(job->req);

        pthread_mutex_lock(&s->lock);
        answer_open(job->req, job->handle, &job->fi, r);
        pthread_mutex_unlock(&s->lock);
        free(job);
}

void
halt_open(fuse_req_t req, struct handle *h, const struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct halt_job *job;
        int r;

        if (store_is_primary(s->store)) { /* it may write anyway */
                if (fuse_reply_open(req, fi) == -ENOENT)
                        handle_drop(s, h);
                return;
        }
        job = malloc(sizeof *job);
        if (job == NULL || s->halts.open == NULL) {
                free(job);
                answer_open(req, h, fi, s->halts.open == NULL ? E_NOT_PRIMARY : -ENOMEM);
                return;
        }
        *job = (struct halt_job){ req, h, *fi };
        h->is_opening = true; /* until it is answered */
        r = s->halts.open(s->halts.arg, h->inode->db, (struct db_done){ finish_open, job });
        if (r == DB_PENDING)
                return;
        free(job);
        answer_open(req, h, fi, r);
}

void
halt_close(struct session *s, struct handle *h)
{
        h->is_halt = false;
        s->halts.close(s->halts.arg, h->inode->db);
}
