/* NAME@MOMENT: a past state of a database (moments.h). */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "fuse/moments.h"

static int
stat_moment(struct session *s, struct inode *in, struct stat *ret)
{
        const struct moment_info *info = &in->moment->info;

        (void)s;
        /* Also where it has come to that since it was found: by the next look-up it is known. */
        if (info->is_hidden || in->moment->past_version != db_past_version(in->db))
                *ret = (struct stat){ .st_mode = S_IFREG | 0600,
                                      .st_uid = geteuid(),
                                      .st_gid = getegid() };
        else
                stat_as_database(in->db, ret); /* the same where its file is gone */
        ret->st_mode &= ~(mode_t)0333;
        ret->st_size = (off_t)info->page_count * info->page_size;
        ret->st_blocks = ret->st_size / 512;
        ret->st_mtim.tv_sec = info->time_ms / 1000;
        ret->st_mtim.tv_nsec = info->time_ms % 1000 * 1000000;
        ret->st_atim = ret->st_ctim = ret->st_mtim;
        return 0;
}

static ssize_t
read_moment(struct session *s, struct inode *in, void *buf, size_t n, uint64_t off)
{
        struct err e = ERR_INIT;
        ssize_t r;

        (void)s;
        if (in->moment->moment == NULL)
                return -EIO;
        r = moment_read(in->moment->moment, buf, n, off, &e);
        if (r < 0)
                log_event(LOG_ERROR, db_name(in->db), "cannot read the state of transaction %016llx: %s",
                          (unsigned long long)in->moment->info.pos.txid, e.text);
        return r;
}

static int
chmod_moment(struct session *s, struct inode *in, mode_t mode)
{
        (void)s, (void)in, (void)mode;
        return -EACCES;
}

static int
chown_moment(struct session *s, struct inode *in, uid_t uid, gid_t gid)
{
        (void)s, (void)in, (void)uid, (void)gid;
        return -EACCES;
}

const struct node_ops node_moment_ops = {
        .stat = stat_moment, .read = read_moment, .chmod = chmod_moment, .chown = chown_moment
};
