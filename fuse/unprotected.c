#include "fuse/unprotected.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "fuse/fuse_internal.h"
#include "sqlite/dbheader.h"
#include "store/dbname.h"

#define MAGIC "SQLite format 3"
#define SECTOR 512 /* of which every page is a multiple */

/* Whether it is the first time; of more names than are remembered the oldest are forgotten. */
static bool
is_news(struct session *s, const char *path)
{
        uint64_t h = 14695981039346656037u;

        for (const char *p = path; *p != '\0'; p++)
                h = (h ^ (unsigned char)*p) * 1099511628211u;
        for (size_t i = 0; i < N_TOLD_NAMES; i++)
                if (s->told_names[i] == h)
                        return false;
        s->told_names[s->n_told_names++ % N_TOLD_NAMES] = h;
        return true;
}

static bool
read_head(struct session *s, struct inode *in, uint8_t *buf, size_t n)
{
        return in->kind == INODE_PLAIN && in->name != NULL && plain_open_fd(s, in) == 0 &&
               pread(in->fd, buf, n, 0) == (ssize_t)n;
}

/* Pages, and not SQLite's. */
static bool
is_encrypted(struct session *s, struct inode *in)
{
        uint8_t head[sizeof MAGIC];
        struct stat st;

        return read_head(s, in, head, sizeof head) && memcmp(head, MAGIC, sizeof head) != 0 &&
               fstat(in->fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size % SECTOR == 0;
}

/* A database but for its names: what is written by one of them would not be seen in the pages of the other. */
static void
tell_of_links(struct session *s, struct inode *in)
{
        uint8_t head[SQLITE_DBHEADER_SIZE];
        struct sqlite_dbheader h;
        char path[PATH_MAX];
        struct stat st;

        if (read_head(s, in, head, sizeof head) && fstat(in->fd, &st) == 0 && st.st_nlink > 1 &&
            sqlite_dbheader_parse(head, sizeof head, &h) == 0 &&
            inode_path(in, path, sizeof path) == 0 && is_news(s, path))
                log_event(
                        LOG_WARN, path,
                        "it is a SQLite database, but the file has another name, too (a hard link): it is kept on "
                        "this node alone, neither logged nor replicated; copy it to a file with one name");
}

void
unprotected_by_journal(struct session *s, struct inode *in)
{
        char path[PATH_MAX];

        tell_of_links(s, in);

        if (is_encrypted(s, in) && inode_path(in, path, sizeof path) == 0 && is_news(s, path))
                log_event(
                        LOG_WARN, path,
                        "SQLite writes it, but it has no SQLite header (is it encrypted?): it is kept on this "
                        "node alone, neither logged nor replicated");
}

static bool
is_wal(const uint8_t *head)
{
        return (get_be32(head) | 1) == 0x377f0683;
}

static void
tell_of_wal(struct session *s, struct inode *in, size_t len)
{
        char name[NAME_MAX + 1];
        struct inode *base;

        if (len > NAME_MAX)
                return;
        memcpy(name, in->name, len);
        name[len] = '\0';
        base = inode_child(&s->inodes, in->parent, name);
        if (base != NULL)
                unprotected_by_journal(s, base);
}

void
unprotected_by_sync(struct session *s, struct inode *in)
{
        uint8_t head[SQLITE_DBHEADER_SIZE];
        struct sqlite_dbheader h;
        char path[PATH_MAX];
        enum dbname_kind kind;
        size_t len;

        if (in->kind != INODE_PLAIN || in->name == NULL)
                return;
        kind = dbname_classify(in->name, &len);
        if (kind == DBNAME_DATABASE)
                tell_of_links(s, in);
        if (kind == DBNAME_DATABASE || !read_head(s, in, head, 32))
                return;
        if (kind == DBNAME_WAL && is_wal(head))
                tell_of_wal(s, in, len);
        if (!read_head(s, in, head, sizeof head) || sqlite_dbheader_parse(head, sizeof head, &h) < 0)
                return;
        if (inode_path(in, path, sizeof path) == 0 && is_news(s, path))
                log_event(
                        LOG_WARN, path,
                        "it is a SQLite database, but its name is that of a companion (%s): it is kept on this "
                        "node alone, neither logged nor replicated; give it another name",
                        in->name + len);
}

void
unprotected_by_rename(struct session *s, const char *path)
{
        (void)s;
        log_event(
                LOG_WARN, path,
                "the database is deleted, here and on the replicas: a file that is none was renamed to its name, and "
                "is kept on this node alone");
}
