/* NAME-journal: in memory (lib/db/capture_journal.c). */
#include <errno.h>
#include <sys/stat.h>

#include "fuse/fuse_internal.h"

static int
stat_journal(struct session *s, struct inode *in, struct stat *ret)
{
        (void)s;
        if (db_stat(in->db, ret) < 0) /* for the times */
                *ret = (struct stat){ 0 };
        stat_as_database(in->db, ret);
        ret->st_size = in->name != NULL ? (off_t)db_journal_size(in->db) : 0;
        ret->st_blocks = (ret->st_size + 511) / 512;
        return 0;
}

static ssize_t
journal_node_read(struct session *s, struct inode *in, void *buf, size_t n, uint64_t off)
{
        (void)s;
        return in->name != NULL ? db_journal_read(in->db, buf, n, off) : 0;
}

static int
journal_node_write(struct session *s, struct inode *in, const void *buf, size_t n, uint64_t off,
                   struct db_done done)
{
        (void)s;
        return in->name != NULL ? db_journal_write(in->db, buf, n, off, done) : -EIO;
}

static int
truncate_journal(struct session *s, struct inode *in, uint64_t size, struct db_done done)
{
        (void)s;
        return in->name != NULL ? db_journal_truncate(in->db, size, done) : 0;
}

static int
fsync_journal(struct session *s, struct inode *in, bool is_data_only, struct db_done done)
{
        (void)s;
        (void)is_data_only;
        return in->name != NULL ? db_journal_fsync(in->db, done) : 0;
}

const struct node_ops node_journal_ops = {
        .stat = stat_journal,
        .read = journal_node_read,
        .write = journal_node_write,
        .truncate = truncate_journal,
        .fsync = fsync_journal,
        .chmod = chmod_companion,
        .chown = chown_companion,
};
