/* What is the same for all requests: the node and the open file that one is about, counts, and putting it aside. */
#include <errno.h>
#include <limits.h>

#include "base/log.h"
#include "fuse/fs.h"

static void
tell_request(fuse_req_t req, enum request_type type, const struct inode *in, const char *name)
{
        static const char *const names[] = {
#define REQUEST_NAME(n) #n,
                REQUEST_TYPES(REQUEST_NAME)
#undef REQUEST_NAME
        };
        struct session *s = session_of(req);
        char path[PATH_MAX] = "?";

        atomic_fetch_add_explicit(&s->counts[type], 1, memory_order_relaxed);
        if (atomic_load_explicit(&s->is_awaited, memory_order_relaxed))
                session_request_came(s, type);
        if (!s->config.is_debug)
                return;
        if (in != NULL)
                (void)inode_path(in, path, sizeof path);
        log_event(LOG_INFO, NULL, "fuse: %s /%s%s%s pid=%d", names[type], path, name != NULL ? " " : "",
                  name != NULL ? name : "", (int)fuse_req_ctx(req)->pid);
}

struct inode *
request_node(fuse_req_t req, enum request_type type, fuse_ino_t ino, const char *name)
{
        struct inode *in = inode_find(&session_of(req)->inodes, ino);

        tell_request(req, type, in, name);
        if (in == NULL)
                fuse_reply_err(req, ESTALE);
        return in;
}

struct inode *
request_dir(fuse_req_t req, enum request_type type, fuse_ino_t ino, const char *name)
{
        struct inode *in = request_node(req, type, ino, name);

        if (in == NULL || in->kind == INODE_DIR || in->kind == INODE_HISTORY)
                return in;
        fuse_reply_err(req, ENOTDIR);
        return NULL;
}

bool
request_handle(fuse_req_t req, const struct inode *in, const struct fuse_file_info *fi,
               struct handle **ret)
{
        struct handle *h;

        *ret = NULL;
        if (fi == NULL || fi->fh == 0)
                return true;
        h = id_table_find(&session_of(req)->handles, fi->fh);
        if (h == NULL || h->inode != in || h->is_opening) {
                fuse_reply_err(req, EBADF);
                return false;
        }
        *ret = h;
        return true;
}

bool
request_parks(fuse_req_t req, struct inode *in)
{
        if (in->kind != INODE_PLAIN || !in->is_adopting)
                return false;
        session_park(session_of(req), req);
        return true;
}

bool
request_was_busy(fuse_req_t req, int r)
{
        if (r == E_BUSY)
                session_park(session_of(req), req);
        return r == E_BUSY;
}
