/* Longer pieces are made from the log, as those of level 0 were, never read back. What is not needed any more goes: a piece of
 * level 0 once a longer one has it, and all that is before the oldest whole database that is kept. */
#include <errno.h>

#include "backup/upload_internal.h"

#define KEEP_MS 15000          /* between two looks for what may go */
#define PIECE_BYTES (1u << 30) /* of the log in one */

/* Wall-clock multiples, as Litestream has them. */
static int64_t
next_multiple(int64_t now_ms, int64_t interval_ms)
{
        return interval_ms > 0 ? (now_ms / interval_ms + 1) * interval_ms : INT64_MAX;
}

/* How far pieces of @level can reach: what the level below has. */
static struct ltx_pos
reach_of(const struct upload *u, int level)
{
        return level == 1 ? u->pos : u->level_pos[level - 1];
}

static int
make_piece(struct upload *u, struct backup_range *rg, int level, struct err *e)
{
        struct ltx_pos reach = reach_of(u, level);
        struct txlog_record stop;
        int r;

        if (u->level_pos[level].txid >= reach.txid || u->is_deleted)
                return 0;
        r = backup_range_gather(rg, db_log(u->db), u->level_pos[level], reach.txid, PIECE_BYTES, &stop,
                                e);
        if (r == 1) {
                r = upload_put_range(u, rg, (unsigned)level, e);
                if (r == 0)
                        u->level_pos[level] = (struct ltx_pos){ backup_range_header(rg)->max_txid,
                                                                backup_range_header(rg)->chain_post };
                return r;
        }
        /* The log is shorter than the piece would be, or a whole database lies in between: shorter pieces stay. */
        if (r == E_NOT_FOUND || r == E_POS_MISMATCH || r == BACKUP_RANGE_BREAK) {
                u->level_pos[level] = reach;
                r = 0;
        }
        return r;
}

static int
make_pieces(struct upload *u, struct backup_range *rg, struct err *e)
{
        int64_t now = upload_now(u);
        int r = 0;

        for (int level = 1; level <= UPLOAD_LEVELS && r == 0; level++) {
                bool is_due = now >= u->level_at_ms[level] && u->level_at_ms[level] != 0;

                if (is_due)
                        r = make_piece(u, rg, level, e);
                if (r == 0 && (is_due || u->level_at_ms[level] == 0))
                        u->level_at_ms[level] = next_multiple(now, u->config->level_ms[level]);
        }
        return r;
}

/* --- what may go --- */

/* Where the oldest whole database ends without which states of the last keep_ms could not be restored. */
static uint64_t
oldest_kept(const struct upload *u)
{
        int64_t since_ms = upload_now(u) - u->config->keep_ms;
        uint64_t kept = 0, first = UINT64_MAX;

        for (size_t i = 0; i < u->objects.n; i++) {
                const struct backup_object *o = &u->objects.items[i];

                if (o->level != BACKUP_SNAPSHOT_LEVEL)
                        continue;
                if (o->time_ms <= since_ms && o->max_txid > kept)
                        kept = o->max_txid;
                if (o->max_txid < first)
                        first = o->max_txid;
        }
        return kept != 0 ? kept : first == UINT64_MAX ? 0 : first;
}

static bool
may_go(const struct upload *u, const struct backup_object *o, uint64_t oldest)
{
        if (o->level == BACKUP_SNAPSHOT_LEVEL)
                return o->max_txid < oldest;
        if (o->max_txid <= oldest)
                return true;
        return o->level == 0 && o->max_txid <= u->level_pos[1].txid && u->config->level_ms[1] > 0 &&
               o->time_ms <= upload_now(u) - u->config->level_ms[0];
}

/* Of the whole databases, or of the pieces. */
static int
remove_old_of(struct upload *u, uint64_t oldest, bool is_whole, struct err *e)
{
        size_t which[DEST_REMOVE_MAX], n = 0;
        int r = 0;

        for (size_t i = u->objects.n; i-- > 0 && r == 0 && !u->cannot_remove;) {
                const struct backup_object *o = &u->objects.items[i];

                if ((o->level == BACKUP_SNAPSHOT_LEVEL) == is_whole && may_go(u, o, oldest))
                        which[n++] = i;
                if (n == DEST_REMOVE_MAX || (i == 0 && n > 0)) {
                        r = upload_remove_all(u, which, n, e);
                        n = 0;
                }
        }
        return r;
}

/* Pieces before the whole databases that they follow on. */
static int
remove_old(struct upload *u, struct err *e)
{
        uint64_t oldest = oldest_kept(u);
        int r;

        if (u->config->keep_ms <= 0 || u->cannot_remove)
                return 0;
        r = remove_old_of(u, oldest, false, e);
        return r == 0 ? remove_old_of(u, oldest, true, e) : r;
}

int
upload_keep(struct upload *u, struct backup_range *rg, struct err *e)
{
        int64_t now = upload_now(u);
        int r = make_pieces(u, rg, e);

        if (r == 0 && now >= u->snapshot_at_ms && u->pos.txid > u->snapshot_txid && !u->is_deleted &&
            u->config->snapshot_ms > 0)
                u->wants_snapshot = true;
        if (r < 0 || now < u->keep_at_ms)
                return r;
        u->keep_at_ms = now + KEEP_MS;
        return remove_old(u, e);
}

int64_t
upload_due_ms(const struct upload *u)
{
        int64_t due = INT64_MAX;

        if (u->state == UPLOAD_BLOCKED)
                return u->look_at_ms;
        if (u->state == UPLOAD_LOOKING || u->is_deleted)
                return INT64_MAX;
        for (int level = 1; level <= UPLOAD_LEVELS; level++)
                if (u->level_pos[level].txid < reach_of(u, level).txid && u->level_at_ms[level] < due)
                        due = u->level_at_ms[level];
        if (u->pos.txid > u->snapshot_txid && u->config->snapshot_ms > 0 && u->snapshot_at_ms < due)
                due = u->snapshot_at_ms;
        return due;
}
