/* NAME-pos, NAME-lock, .primary and .lag: content made here, never cached. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse/fuse_internal.h"

#define TEXT_MAX 1024

/* The content: its length, or a negative errno. */
static int
make_text(struct session *s, struct inode *in, char *buf)
{
        struct lease_state holder;
        struct db_info info;

        switch (in->kind) {
        case INODE_LOCK: /* there to be opened: halt.c */
                return 0;
        case INODE_POS:
                db_get_info(in->db, &info);
                ltx_pos_format(info.pos, buf);
                memcpy(buf + LTX_POS_TEXT_LEN, "\n", 2);
                return LTX_POS_TEXT_LEN + 1;
        case INODE_PRIMARY:
                if (!store_primary(s->store, &holder))
                        return -ENOENT;
                return snprintf(buf, TEXT_MAX, "%.1000s\n", holder.hostname);
        default:
                /* Milliseconds behind the primary; the largest number before the first contact. */
                return snprintf(buf, TEXT_MAX, "%+010d\n", (int)store_lag_ms(s->store));
        }
}

static int
stat_virtual(struct session *s, struct inode *in, struct stat *ret)
{
        char text[TEXT_MAX];
        struct db_info info;
        int n = make_text(s, in, text);

        if (n < 0)
                return n;
        *ret = (struct stat){
                .st_mode = S_IFREG | 0444, .st_size = n, .st_uid = geteuid(), .st_gid = getegid()
        };
        if (in->db !=
            NULL) /* who may not read it learns nothing of it, who may not write it does not halt it */
                stat_as_database(in->db, ret);
        if (in->kind == INODE_POS) {
                db_get_info(in->db, &info);
                ret->st_mtim.tv_sec = info.timestamp_ms / 1000;
                ret->st_mtim.tv_nsec = info.timestamp_ms % 1000 * 1000000;
        } else {
                clock_gettime(CLOCK_REALTIME, &ret->st_mtim);
        }
        ret->st_atim = ret->st_ctim = ret->st_mtim;
        return 0;
}

static ssize_t
read_virtual(struct session *s, struct inode *in, void *buf, size_t n, uint64_t off)
{
        char text[TEXT_MAX];
        int len = make_text(s, in, text);

        if (len < 0)
                return len;
        if (off >= (uint64_t)len)
                return 0;
        if (n > (size_t)len - off)
                n = (size_t)len - (size_t)off;
        memcpy(buf, text + off, n);
        return (ssize_t)n;
}

static int
truncate_virtual(struct session *s, struct inode *in, uint64_t size, struct db_done done)
{
        (void)s, (void)in, (void)size, (void)done;
        return 0; /* as LiteFS: ignored */
}

const struct node_ops node_pos_ops = {
        .stat = stat_virtual, .read = read_virtual, .truncate = truncate_virtual, .is_uncached = true
};
const struct node_ops node_primary_ops = { .stat = stat_virtual,
                                           .read = read_virtual,
                                           .is_uncached = true };
const struct node_ops node_lag_ops = { .stat = stat_virtual, .read = read_virtual, .is_uncached = true };
const struct node_ops node_lock_ops = {
        .stat = stat_virtual, .read = read_virtual, .truncate = truncate_virtual, .is_uncached = true
};
