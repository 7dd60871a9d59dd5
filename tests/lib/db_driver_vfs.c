/* SQLite's side of the driver: each method is what fuse/ops.c makes of the request that the kernel would send. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "db/passed.h"

#include "sqlite/wal_index.h"
#include "tests/lib/db_driver_internal.h"

enum kind { KIND_DB, KIND_JOURNAL, KIND_WAL };

struct file {
        sqlite3_file base;
        struct db_driver *d;
        enum kind kind;
        int lock;
        int has_shm;
        unsigned shm_shared, shm_exclusive; /* bit masks */
};

static struct file *
file_of(sqlite3_file *f)
{
        return (struct file *)f;
}

/* --- reading and writing --- */

static int
vfs_read(sqlite3_file *sf, void *buf, int n, sqlite3_int64 off)
{
        struct file *f = file_of(sf);
        struct db *db = f->d->db;
        ssize_t r = -EIO;

        switch (f->kind) {
        case KIND_DB:
                r = db_read(db, buf, (size_t)n, (uint64_t)off);
                break;
        case KIND_JOURNAL:
                r = db_journal_read(db, buf, (size_t)n, (uint64_t)off);
                break;
        case KIND_WAL:
                r = f->d->wal_fd >= 0
                            ? os_pread_all(f->d->env.os, "driver:wal", f->d->wal_fd, buf, (size_t)n, off)
                            : db_wal_read(db, buf, (size_t)n, (uint64_t)off);
                break;
        }
        if (r < 0)
                return SQLITE_IOERR_READ;
        if (r == n)
                return SQLITE_OK;
        memset((char *)buf + r, 0, (size_t)(n - r));
        return SQLITE_IOERR_SHORT_READ;
}

/* A connection that does not know of a captured commit is made to read the WAL anew. */
static void
repair_index(struct db_driver *d)
{
        if (d->regions[0] != NULL)
                wal_index_invalidate(d->regions[0]);
}

static int
vfs_write(sqlite3_file *sf, const void *buf, int n, sqlite3_int64 off)
{
        struct file *f = file_of(sf);
        struct db *db = f->d->db;
        struct db_driver_wait w;
        struct db_done done = db_driver_wait_begin(f->d, &w);
        int r = -EIO;

        do { /* E_BUSY: a worker captures what was there already */
                db_driver_wait_idle(f->d);
                switch (f->kind) {
                case KIND_DB:
                        r = db_write(db, buf, (size_t)n, (uint64_t)off, done);
                        break;
                case KIND_JOURNAL:
                        r = db_journal_write(db, buf, (size_t)n, (uint64_t)off, done);
                        break;
                case KIND_WAL:
                        r = f->d->wal_fd >= 0 ? os_pwrite_all(f->d->env.os, "driver:wal", f->d->wal_fd,
                                                              buf, (size_t)n, off)
                                              : db_wal_write(db, buf, (size_t)n, (uint64_t)off, done);
                        break;
                }
        } while (r == E_BUSY);
        r = db_driver_wait_end(&w, r);
        if (r == -ESTALE || (r == E_UNCONFIRMED && f->kind == KIND_WAL))
                repair_index(f->d);
        return r == 0 ? SQLITE_OK : r == -ENOSPC ? SQLITE_FULL : SQLITE_IOERR_WRITE;
}

static int
vfs_truncate(sqlite3_file *sf, sqlite3_int64 size)
{
        struct file *f = file_of(sf);
        struct db *db = f->d->db;
        struct db_driver_wait w;
        struct db_done done = db_driver_wait_begin(f->d, &w);
        int r = -EIO;

        do { /* E_BUSY: a worker captures what was there already */
                db_driver_wait_idle(f->d);
                switch (f->kind) {
                case KIND_DB:
                        r = db_truncate(db, (uint64_t)size);
                        break;
                case KIND_JOURNAL:
                        r = db_journal_truncate(db, (uint64_t)size, done);
                        break;
                case KIND_WAL:
                        r = db_wal_truncate(db, (uint64_t)size);
                        break;
                }
        } while (r == E_BUSY);
        return db_driver_wait_end(&w, r) == 0 ? SQLITE_OK : SQLITE_IOERR_TRUNCATE;
}

static int
vfs_sync(sqlite3_file *sf, int flags)
{
        struct file *f = file_of(sf);
        struct db *db = f->d->db;
        struct db_driver_wait w;
        struct db_done done = db_driver_wait_begin(f->d, &w);
        int r = -EIO;

        (void)flags;
        if (f->kind == KIND_WAL && f->d->dies_before_sync) {
                f->d->dies_before_sync = false;
                return SQLITE_IOERR_FSYNC;
        }
        do { /* E_BUSY: a worker captures what was there already */
                db_driver_wait_idle(f->d);
                switch (f->kind) {
                case KIND_DB:
                        r = db_fsync(db, done);
                        break;
                case KIND_JOURNAL:
                        r = db_journal_fsync(db, done);
                        break;
                case KIND_WAL:
                        r = db_wal_fsync(db, done);
                        break;
                }
        } while (r == E_BUSY);
        r = db_driver_wait_end(&w, r);
        if ((r == E_UNCONFIRMED || r == -ESTALE) && f->kind == KIND_WAL)
                repair_index(f->d);
        if (r == 0 && f->kind == KIND_WAL && f->d->dies_after_sync) {
                f->d->dies_after_sync = false;
                return SQLITE_IOERR_FSYNC;
        }
        return r == 0 ? SQLITE_OK : SQLITE_IOERR_FSYNC;
}

static int
size_of(struct db_driver *d, enum kind kind, sqlite3_int64 *ret)
{
        struct stat st;
        int r;

        switch (kind) {
        case KIND_DB:
                *ret = (sqlite3_int64)db_size_bytes(d->db);
                return 0;
        case KIND_JOURNAL:
                *ret = (sqlite3_int64)db_journal_size(d->db);
                return 0;
        default:
                r = db_wal_stat(d->db, &st);
                *ret = r == 0 ? st.st_size : 0;
                return r;
        }
}

static int
vfs_size(sqlite3_file *sf, sqlite3_int64 *ret)
{
        return size_of(file_of(sf)->d, file_of(sf)->kind, ret) == 0 ? SQLITE_OK : SQLITE_IOERR_FSTAT;
}

/* --- locks of the database file, with SQLite's rules --- */

static int
vfs_lock(sqlite3_file *sf, int level)
{
        struct file *f = file_of(sf);
        struct db_driver *d = f->d;

        if (f->lock >= level)
                return SQLITE_OK;
        if (level == SQLITE_LOCK_SHARED) {
                if (d->pending != NULL || d->exclusive != NULL)
                        return SQLITE_BUSY;
                d->n_shared++;
        } else if (level == SQLITE_LOCK_RESERVED) {
                if (d->reserved != NULL)
                        return SQLITE_BUSY;
                d->reserved = f;
        } else {
                if ((d->reserved != NULL && d->reserved != f) || (d->pending != NULL && d->pending != f))
                        return SQLITE_BUSY;
                d->pending = f;
                if (f->lock < SQLITE_LOCK_PENDING)
                        f->lock = SQLITE_LOCK_PENDING;
                if (d->n_shared > 1)
                        return SQLITE_BUSY;
                d->exclusive = f;
        }
        f->lock = level;
        return SQLITE_OK;
}

static int
vfs_unlock(sqlite3_file *sf, int level)
{
        struct file *f = file_of(sf);
        struct db_driver *d = f->d;

        if (f->lock <= level)
                return SQLITE_OK;
        if (d->reserved == f)
                d->reserved = NULL;
        if (d->pending == f)
                d->pending = NULL;
        if (d->exclusive == f)
                d->exclusive = NULL;
        if (level == SQLITE_LOCK_NONE)
                d->n_shared--;
        f->lock = level;
        return SQLITE_OK;
}

static int
vfs_check_reserved(sqlite3_file *sf, int *ret)
{
        struct db_driver *d = file_of(sf)->d;

        *ret = d->reserved != NULL || d->pending != NULL || d->exclusive != NULL;
        return SQLITE_OK;
}

static int
vfs_control(sqlite3_file *sf, int op, void *arg)
{
        (void)sf, (void)op, (void)arg;
        return SQLITE_NOTFOUND;
}

static int
vfs_sector_size(sqlite3_file *sf)
{
        (void)sf;
        return 4096;
}

static int
vfs_characteristics(sqlite3_file *sf)
{
        return file_of(sf)->d->is_padded ? 0 : SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

/* --- the wal-index --- */

/* In a file that the database reads, too. */
static bool
map_region(struct db_driver *d, int region, int size)
{
        off_t at = (off_t)region * size;
        void *p;

        if (d->index_fd < 0) {
                d->index_fd = memfd_create("wal-index", MFD_CLOEXEC);
                db_driver_require(d->index_fd >= 0);
                db_wal_set_index(d->db, fcntl(d->index_fd, F_DUPFD_CLOEXEC, 3));
        }
        if (ftruncate(d->index_fd, at + size) < 0)
                return false;
        p = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, d->index_fd, at);
        d->regions[region] = p == MAP_FAILED ? NULL : p;
        return p != MAP_FAILED;
}

static void
free_regions(struct db_driver *d)
{
        for (int i = 0; i < DB_DRIVER_REGIONS_MAX; i++) {
                if (d->index_fd >= 0 && d->regions[i] != NULL)
                        munmap(d->regions[i], 32768);
                else
                        sqlite3_free(d->regions[i]);
                d->regions[i] = NULL;
        }
        if (d->index_fd < 0)
                return;
        db_wal_set_index(d->db, -1);
        close(d->index_fd);
        d->index_fd = -1;
}

static int
vfs_shm_map(sqlite3_file *sf, int region, int size, int is_extending, void volatile **ret)
{
        struct file *f = file_of(sf);
        struct db_driver *d = f->d;

        if (!f->has_shm) {
                f->has_shm = 1;
                d->n_shm_users++;
        }
        *ret = NULL;
        if (region >= DB_DRIVER_REGIONS_MAX)
                return SQLITE_IOERR_SHMSIZE;
        if (d->regions[region] == NULL && is_extending && d->wal_fd >= 0) {
                if (!map_region(d, region, size))
                        return SQLITE_NOMEM;
        } else if (d->regions[region] == NULL && is_extending) {
                d->regions[region] = sqlite3_malloc(size);
                if (d->regions[region] == NULL)
                        return SQLITE_NOMEM;
                memset(d->regions[region], 0, (size_t)size);
        }
        *ret = d->regions[region];
        return SQLITE_OK;
}

static int
vfs_shm_lock(sqlite3_file *sf, int offset, int n, int flags)
{
        struct file *f = file_of(sf);
        struct db_driver *d = f->d;

        for (int i = offset; i < offset + n && (flags & SQLITE_SHM_LOCK); i++)
                if ((d->shm_exclusive[i] != NULL && d->shm_exclusive[i] != f) ||
                    ((flags & SQLITE_SHM_EXCLUSIVE) &&
                     d->shm_shared[i] > ((f->shm_shared >> i) & 1u ? 1 : 0)))
                        return SQLITE_BUSY;
        for (int i = offset; i < offset + n; i++) {
                unsigned bit = 1u << i;

                if (flags & SQLITE_SHM_EXCLUSIVE) {
                        d->shm_exclusive[i] = flags & SQLITE_SHM_LOCK ? f : NULL;
                        f->shm_exclusive = flags & SQLITE_SHM_LOCK ? f->shm_exclusive | bit
                                                                   : f->shm_exclusive & ~bit;
                } else if (flags & SQLITE_SHM_LOCK) {
                        if (!(f->shm_shared & bit))
                                d->shm_shared[i]++;
                        f->shm_shared |= bit;
                } else {
                        if (f->shm_shared & bit)
                                d->shm_shared[i]--;
                        f->shm_shared &= ~bit;
                }
        }
        return SQLITE_OK;
}

static void
vfs_shm_barrier(sqlite3_file *sf)
{
        (void)sf;
        __sync_synchronize();
}

static int
vfs_shm_unmap(sqlite3_file *sf, int is_deleting)
{
        struct file *f = file_of(sf);
        struct db_driver *d = f->d;

        (void)is_deleting; /* whoever comes next recovers it from the WAL */
        if (!f->has_shm)
                return SQLITE_OK;
        f->has_shm = 0;
        for (int i = 0; i < SQLITE_SHM_NLOCK; i++) {
                if (f->shm_shared >> i & 1u)
                        d->shm_shared[i]--;
                if (f->shm_exclusive >> i & 1u)
                        d->shm_exclusive[i] = NULL;
        }
        f->shm_shared = f->shm_exclusive = 0;
        if (--d->n_shm_users > 0)
                return SQLITE_OK;
        free_regions(d);
        return SQLITE_OK;
}

/* As the mount does with the first handle: see fuse/passthrough.c. */
static int
pass_wal_through(struct db_driver *d)
{
        char path[4096];
        int r;

        if (d->n_wal_users++ > 0)
                return 0;
        do {
                db_driver_wait_idle(d);
                r = db_wal_pass_through(d->db,
                                        d->is_passed ? WAL_PASSTHROUGH_FULL : WAL_PASSTHROUGH_OFF);
        } while (r == E_BUSY);
        if (r < 0 || !d->is_passed)
                return r;
        snprintf(path, sizeof path, "%s", d->tmp_dir);
        strcpy(strrchr(path, '/'), "/dbs/t.db/wal");
        d->wal_fd = os_open(d->env.os, "driver:wal", path, O_RDWR | O_CLOEXEC, 0);
        return d->wal_fd < 0 ? d->wal_fd : 0;
}

static void
drop_wal_user(struct db_driver *d)
{
        if (--d->n_wal_users > 0)
                return;
        os_close(d->env.os, "driver:wal", d->wal_fd);
        d->wal_fd = -1;
}

static int
vfs_close(sqlite3_file *sf)
{
        struct file *f = file_of(sf);

        if (f->kind == KIND_DB) {
                vfs_shm_unmap(sf, 0);
                vfs_unlock(sf, SQLITE_LOCK_NONE);
        } else if (f->kind == KIND_WAL) {
                drop_wal_user(f->d);
        }
        return SQLITE_OK;
}

static const sqlite3_io_methods methods = {
        .iVersion = 2,
        .xClose = vfs_close,
        .xRead = vfs_read,
        .xWrite = vfs_write,
        .xTruncate = vfs_truncate,
        .xSync = vfs_sync,
        .xFileSize = vfs_size,
        .xLock = vfs_lock,
        .xUnlock = vfs_unlock,
        .xCheckReservedLock = vfs_check_reserved,
        .xFileControl = vfs_control,
        .xSectorSize = vfs_sector_size,
        .xDeviceCharacteristics = vfs_characteristics,
        .xShmMap = vfs_shm_map,
        .xShmLock = vfs_shm_lock,
        .xShmBarrier = vfs_shm_barrier,
        .xShmUnmap = vfs_shm_unmap,
};

/* --- names --- */

static enum kind
kind_of(const char *name)
{
        size_t n = strlen(name);

        if (n > 8 && strcmp(name + n - 8, "-journal") == 0)
                return KIND_JOURNAL;
        return n > 4 && strcmp(name + n - 4, "-wal") == 0 ? KIND_WAL : KIND_DB;
}

static bool
exists(struct db_driver *d, enum kind kind)
{
        return kind == KIND_DB        ? db_exists(d->db)
               : kind == KIND_JOURNAL ? db_journal_exists(d->db)
                                      : db_wal_exists(d->db);
}

static int
create(struct db_driver *d, enum kind kind)
{
        db_driver_wait_idle(d);
        return kind == KIND_DB        ? -ENOENT
               : kind == KIND_JOURNAL ? db_journal_create(d->db)
                                      : db_wal_create(d->db, 0644);
}

static int
vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *sf, int flags, int *ret_flags)
{
        struct db_driver *d = vfs->pAppData;
        struct file *f = file_of(sf);

        sf->pMethods = NULL;
        if (!(flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL))) {
                sqlite3_vfs *other = sqlite3_vfs_find(NULL);

                return other->xOpen(other, name, sf, flags, ret_flags);
        }
        memset(f, 0, sizeof *f);
        f->d = d;
        f->kind = kind_of(name);
        if (!exists(d, f->kind) && (!(flags & SQLITE_OPEN_CREATE) || create(d, f->kind) < 0))
                return SQLITE_CANTOPEN;
        if (f->kind == KIND_WAL && pass_wal_through(d) < 0) {
                drop_wal_user(d);
                return SQLITE_CANTOPEN;
        }
        if (ret_flags != NULL)
                *ret_flags = flags;
        sf->pMethods = &methods;
        return SQLITE_OK;
}

static int
vfs_delete(sqlite3_vfs *vfs, const char *name, int is_dir_synced)
{
        struct db_driver *d = vfs->pAppData;
        struct db_driver_wait w;
        struct db_done done = db_driver_wait_begin(d, &w);
        enum kind kind = kind_of(name);
        int fd = -1, r;

        (void)is_dir_synced;
        if (!exists(d, kind))
                return SQLITE_IOERR_DELETE_NOENT;
        if (kind == KIND_JOURNAL) {
                r = db_driver_wait_end(&w, db_journal_unlink(d->db, done));
        } else {
                db_driver_require(kind == KIND_WAL);
                do {
                        db_driver_wait_idle(d);
                        r = db_wal_unlink(d->db, &fd);
                } while (r == E_BUSY);
                os_close(d->env.os, "driver:close", fd);
        }
        return r == 0 ? SQLITE_OK : SQLITE_IOERR_DELETE;
}

static int
vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret)
{
        struct db_driver *d = vfs->pAppData;
        enum kind kind = kind_of(name);
        sqlite3_int64 size = 0;

        /* An empty file does not exist for SQLite's own VFS either. */
        *ret = exists(d, kind) &&
               (flags != SQLITE_ACCESS_EXISTS || (size_of(d, kind, &size) == 0 && size > 0));
        return SQLITE_OK;
}

static int
vfs_full_pathname(sqlite3_vfs *vfs, const char *name, int n, char *out)
{
        (void)vfs;
        return snprintf(out, (size_t)n, "%s", name) < n ? SQLITE_OK : SQLITE_CANTOPEN;
}

static int
vfs_randomness(sqlite3_vfs *vfs, int n, char *out)
{
        sqlite3_vfs *other = sqlite3_vfs_find(NULL);

        (void)vfs;
        return other->xRandomness(other, n, out);
}

static int
vfs_sleep(sqlite3_vfs *vfs, int us)
{
        (void)vfs;
        return us;
}

static int
vfs_time(sqlite3_vfs *vfs, double *ret)
{
        sqlite3_vfs *other = sqlite3_vfs_find(NULL);

        (void)vfs;
        return other->xCurrentTime(other, ret);
}

void
db_driver_register(struct db_driver *d)
{
        sqlite3_vfs *other;
        size_t size = sizeof(struct file);

        sqlite3_initialize();
        other = sqlite3_vfs_find(NULL);
        if ((size_t)other->szOsFile > size)
                size = (size_t)other->szOsFile;
        snprintf(d->vfs_name, sizeof d->vfs_name, "driver-%p", (void *)d);
        d->vfs = (sqlite3_vfs){
                .iVersion = 1,
                .szOsFile = (int)size,
                .mxPathname = 512,
                .zName = d->vfs_name,
                .pAppData = d,
                .xOpen = vfs_open,
                .xDelete = vfs_delete,
                .xAccess = vfs_access,
                .xFullPathname = vfs_full_pathname,
                .xRandomness = vfs_randomness,
                .xSleep = vfs_sleep,
                .xCurrentTime = vfs_time,
        };
        sqlite3_vfs_register(&d->vfs, 0);
}

void
db_driver_unregister(struct db_driver *d)
{
        sqlite3_vfs_unregister(&d->vfs);
}
