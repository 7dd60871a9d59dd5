/* Open files. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "fuse/fs.h"
#include "fuse/moments.h"
#include "fuse/passthrough.h"

/* A daemon that is killed closes its own handles before it lets go of the connection: a FLUSH of them would wait for an answer
 * from itself, for ever. A close drops all POSIX locks that the process has on the file, and the kernel does that after FLUSH:
 * SQLite, which closes a database's file if no other connection of the process holds a lock just then, would take that of a
 * thread away that locks meanwhile. SQLite writes no file that it has not opened for reading, too; what it wrote without a
 * journal is then captured by RELEASE. */
static bool
wants_flush(const struct handle *h, const struct inode *in, int flags)
{
        int access = flags & O_ACCMODE;

        return !h->is_internal && node_ops_of(in)->has_flush && access != O_RDONLY &&
               (in->kind != INODE_DB || access == O_WRONLY);
}

struct handle *
handle_new(fuse_req_t req, struct inode *in, struct fuse_file_info *fi)
{
        const struct node_ops *ops = node_ops_of(in);
        struct handle *h = calloc(1, sizeof *h);

        if (h == NULL)
                return NULL;
        h->id = id_table_add(&session_of(req)->handles, h);
        if (h->id == 0) {
                free(h);
                return NULL;
        }
        h->inode = in;
        h->is_internal = session_is_internal(req);
        if (!passthrough_add_handle(h)) {
                id_table_remove(&session_of(req)->handles, h->id);
                free(h);
                return NULL;
        }
        inode_ref(in);
        in->n_handles++;
        fi->fh = h->id;
        fi->direct_io = ops->is_uncached;
        fi->keep_cache = !ops->is_uncached && !plain_has_other_names(in) && !in->was_passed;
        in->was_passed = in->was_passed && in->backing_id > 0;
        fi->noflush = !wants_flush(h, in, fi->flags);
        if (!h->is_internal)
                atomic_fetch_add(&session_of(req)->n_open, 1);
        return h;
}

/* The kernel may know the node for long after. Of one that is unlinked the descriptor is all there is. */
static void
close_idle(struct inode *in)
{
        if ((in->kind != INODE_PLAIN && in->kind != INODE_SHM) || in->name == NULL || in->is_adopting ||
            in->fd < 0)
                return;
        close(in->fd);
        in->fd = -1;
}

void
handle_drop(struct session *s, struct handle *h)
{
        if (!h->is_internal)
                atomic_fetch_sub(&s->n_open, 1);
        h->inode->n_writers -= h->has_written;
        passthrough_drop_handle(s, h);
        if (--h->inode->n_handles == 0) {
                close_idle(h->inode);
                moment_close_node(s, h->inode);
        }
        inode_unref(&s->inodes, h->inode, 1);
        id_table_remove(&s->handles, h->id);
        free(h);
}
