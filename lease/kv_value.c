/* What the keys of a lease have for values. */
#include <ctype.h>
#include <string.h>

#include "lease/kv_lease.h"

const char *
kv_printable(const char *text, size_t n, char *ret, size_t size)
{
        size_t i;

        for (i = 0; i < n && i < size - 1; i++)
                ret[i] = isprint((unsigned char)text[i]) ? text[i] : '?';
        ret[i] = '\0';
        return ret;
}

static bool
copy_text(const char *from, char *to, size_t size)
{
        size_t n = strlen(from);

        if (n >= size)
                return false;
        memcpy(to, from, n + 1);
        return true;
}

int
kv_format_value(const struct kv_lease *kv, uint64_t term, uint64_t renewals, char ret[KV_VALUE_SIZE],
                struct err *e)
{
        json_t *j = json_pack("{s:s, s:s, s:I, s:I}", "hostname", kv->hostname, "advertise-url",
                              kv->advertise_url, "ttl-ms", (json_int_t)kv->base.ttl_ms, "term",
                              (json_int_t)term);
        size_t n;

        if (j == NULL)
                return err_text(e, E_CONFIG, "lease.hostname or lease.advertise-url: not UTF-8");
        if (renewals > 0)
                json_object_set_new(j, "renewals", json_integer((json_int_t)renewals));
        n = json_dumpb(j, ret, KV_VALUE_SIZE - 1, JSON_COMPACT | JSON_PRESERVE_ORDER);
        json_decref(j);
        if (n == 0 || n >= KV_VALUE_SIZE)
                return err_text(e, E_CONFIG, "lease.hostname and lease.advertise-url: too long");
        ret[n] = '\0';
        return 0;
}

int
kv_parse(const char *text, size_t n, uint64_t index, struct lease_state *ret, struct err *e)
{
        json_t *j = json_loadb(text, n, 0, NULL);
        const char *hostname, *url;
        char words[81];
        json_int_t term = 0, ttl_ms = 0;
        bool is_good = json_unpack(j, "{s:s, s:s, s?I, s?I}", "hostname", &hostname, "advertise-url",
                                   &url, "term", &term, "ttl-ms", &ttl_ms) == 0 &&
                       term >= 0 && (uint64_t)term <= LEASE_TERM_MAX && ttl_ms >= 0 &&
                       copy_text(hostname, ret->hostname, sizeof ret->hostname) &&
                       copy_text(url, ret->advertise_url, sizeof ret->advertise_url);

        json_decref(j);
        if (!is_good)
                return err_text(e, E_FORMAT, "the holder's value is not what LiteFS writes: %s",
                                kv_printable(text, n, words, sizeof words));
        ret->has_holder = true;
        ret->term = term > 0 ? (uint64_t)term : index;
        ret->renewal = index;
        ret->ttl_ms = ttl_ms;
        return 0;
}

int
kv_parse_term(const char *text, size_t n, uint64_t *ret, struct err *e)
{
        uint64_t v = 0;

        for (size_t i = 0; i < n; i++) {
                if (text[i] < '0' || text[i] > '9' || v > (LEASE_TERM_MAX - 9) / 10)
                        return err_text(e, E_FORMAT, "the last term is not a number: '%.*s'",
                                        n > 40 ? 40 : (int)n, text);
                v = v * 10 + (uint64_t)(text[i] - '0');
        }
        *ret = v;
        return 0;
}

int
kv_copy_cluster_id(const char *id, size_t n, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        char words[41];
        bool is_good = n == LEASE_CLUSTER_ID_SIZE - 1 && memcmp(id, "LFSC", 4) == 0;

        for (size_t i = 4; is_good && i < n; i++)
                is_good = isxdigit((unsigned char)id[i]);
        if (n > 0 && !is_good)
                return err_text(e, E_FORMAT, "no cluster id: '%s'",
                                kv_printable(id, n, words, sizeof words));
        memcpy(ret, id, n);
        ret[n] = '\0';
        return 0;
}
