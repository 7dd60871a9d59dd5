#include "tests/sim/cluster.h"

struct txn_pos
txn_log_pos(const struct txn_log *l)
{
        const struct txn *last = &l->txns[l->n - 1];

        return l->n == 0 ? (struct txn_pos){ 0 } : (struct txn_pos){ l->n, last->sum, last->term };
}

bool
txn_log_has(const struct txn_log *l, uint32_t txid, uint64_t sum)
{
        return txid == 0 || (txid <= l->n && l->txns[txid - 1].sum == sum);
}

void
txn_log_commit(struct txn_log *l, uint64_t term, uint64_t salt)
{
        uint64_t sum = txn_log_pos(l).sum;

        sum = (sum ^ salt) * 0x9e3779b97f4a7c15u;
        sum ^= sum >> 29;
        l->txns[l->n++] = (struct txn){ term, sum * 0xbf58476d1ce4e5b9u + term };
}
