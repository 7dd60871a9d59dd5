/* The cluster around a node: itself, the lease, the primary, and where each database stands there. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/os.h"
#include "cmd/litefs/answer.h"
#include "cmd/litefs/doctor.h"
#include "cmd/litefs/make.h"
#include "cmd/litefs/passing.h"
#include "repl/cluster_id.h"
#include "store/dbname.h"

#define CLOCK_WARN_S 2
#define CLOCK_FAIL_S 60
#define REQUEST_MS 3000
#define MISSING_WARN 1000 /* transactions */

static bool
is_primary(const struct doctor *d)
{
        return json_is_true(json_object_get(d->info, "isPrimary"));
}

/* --- the running node --- */

static const json_t *
find_answered_database(const json_t *databases, const char *name)
{
        size_t i;
        json_t *db;

        json_array_foreach(json_object_get(databases, "databases"), i,
                           db) if (strcmp(answer_text(db, "name"), name) == 0) return db;
        return NULL;
}

static void
check_is_open(void *arg, const char *name)
{
        struct doctor *d = arg;
        const json_t *db = find_answered_database(d->databases, name);
        char next[DBNAME_MAX + 64];

        snprintf(next, sizeof next, "litefs ltx verify %s", name);
        if (db == NULL)
                doctor_add(d, DOCTOR_FAIL, "database", next,
                           "%s did not recover, and is left out: the log of litefs says why", name);
        else if (json_is_true(json_object_get(db, "isFailed")))
                doctor_add(d, DOCTOR_FAIL, "database", next,
                           "%s has stopped: the log of litefs says why", name);
}

/* What helps against @trouble, the service's words. */
static void
suggest_lease(const struct config *c, const char *trouble, char *buf, size_t size)
{
        bool is_etcd = strcmp(c->lease.type, "etcd") == 0;
        struct http_url url;

        if (strcmp(c->lease.type, "file") == 0)
                snprintf(buf, size, "ls -l %s*", c->lease.file.path);
        else if (strcmp(c->lease.type, "object") == 0)
                snprintf(buf, size,
                         "aws s3 cp %.*s -   # what the lease says; the keys need s3:GetObject and "
                         "PutObject there, and ListBucket",
                         (int)strcspn(c->lease.object.url, "?"), c->lease.object.url);
        else if (is_etcd &&
                 (strstr(trouble, "NOSPACE") != NULL || strstr(trouble, "space exceeded") != NULL))
                snprintf(
                        buf, size,
                        "etcdctl endpoint status -w table   # then: etcdctl compact REVISION; etcdctl defrag; etcdctl "
                        "alarm disarm");
        else if (!is_etcd &&
                 (strstr(trouble, "403") != NULL || strstr(trouble, "ermission denied") != NULL))
                snprintf(
                        buf, size,
                        "consul acl token read -self   # the token of lease.consul.token, or CONSUL_HTTP_TOKEN, "
                        "needs key:write on %s and session:write",
                        c->lease.consul.key);
        else if (is_etcd)
                snprintf(buf, size, "curl -sS %s/health",
                         c->lease.etcd.endpoints.n > 0 ? c->lease.etcd.endpoints.items[0]
                                                       : "http://ETCD:2379");
        else if (http_url_parse(c->lease.consul.url, &url, NULL) == 0)
                snprintf(buf, size, "curl -sS %s/v1/status/leader", url.base);
        else
                snprintf(buf, size, "man litefs.yml");
}

/* A replica that knows nobody, or a candidate that may not lead: ready once or not, it needs help. */
static bool
check_wait(struct doctor *d)
{
        const json_t *waits = json_object_get(d->info, "waits");
        char next[1200];

        if (waits == NULL)
                return false;
        suggest_lease(&d->config, answer_text(waits, "reason"), next, sizeof next);
        doctor_add(d, DOCTOR_FAIL, "node",
                   strcmp(answer_text(waits, "for"), "lease-service") == 0 ? next
                                                                           : answer_text(waits, "next"),
                   "waits: %s", answer_text(waits, "reason"));
        return true;
}

static void
check_ready(struct doctor *d)
{
        char url[1100];
        struct http_request rq = {
                .method = "GET", .url = url, .timeout_ms = REQUEST_MS, .max_response_size = 65536
        };
        struct http_response rs;
        struct err e = ERR_INIT;

        snprintf(url, sizeof url, "%s/readyz", d->client.base);
        if (http_client_do(d->client.http, &rq, &rs, &e) < 0)
                doctor_add(d, DOCTOR_FAIL, "node", "litefs status", "%s", e.text);
        else if (rs.status != 200)
                doctor_add(d, DOCTOR_FAIL, "node", "litefs status", "%.*s",
                           (int)strcspn(rs.body, "\r\n"), rs.body);
        else
                doctor_add(d, DOCTOR_OK, "node", NULL, "answers at %s: %s, term %lld, version %s",
                           d->client.base, answer_text(d->info, "role"),
                           (long long)json_integer_value(json_object_get(d->info, "term")),
                           answer_text(d->info, "version"));
}

/* Whether the others reach this node where it says that they do. With a static lease that is the primary's address. */
static void
check_advertised(struct doctor *d)
{
        const struct config *c = &d->config;
        const char *url = c->lease.advertise_url;
        char next[1100];
        json_t *other = NULL;
        struct err e = ERR_INIT;
        int r;

        if (url[0] == '\0' || c->http.addr[0] == '\0' || !config_has_own_address(c))
                return;
        snprintf(next, sizeof next, "curl -sS %s/info   # and correct lease.advertise-url in %s", url,
                 c->path);
        r = client_get_json(&d->client, url, "/info", &other, &e);
        if (r < 0)
                doctor_add(
                        d, DOCTOR_FAIL, "address", next,
                        "lease.advertise-url: nobody answers at %s, so no replica can follow this node: %s",
                        url, e.text);
        else if (strcmp(answer_text(other, "nodeID"), answer_text(d->info, "nodeID")) == 0)
                doctor_add(d, DOCTOR_OK, "address", NULL, "this node answers at %s", url);
        else if (is_primary(d) && json_is_true(json_object_get(other, "isPrimary")))
                doctor_add(
                        d, DOCTOR_FAIL, "address", "litefs status",
                        "two primaries: %s, at lease.advertise-url, is another node, and both commit. With a static "
                        "lease only one may have candidate: true",
                        url);
        else
                doctor_add(
                        d, DOCTOR_FAIL, "address", next,
                        "lease.advertise-url: another node answers at %s; this one cannot be followed",
                        url);
        json_decref(other);
}

/* What the node says of each database's commits: a fault only where they are less safe than the configuration asks for. */
static void
check_advice(struct doctor *d)
{
        size_t i;
        json_t *db;

        json_array_foreach(json_object_get(d->databases, "databases"), i, db)
        {
                const char *advice = json_string_value(json_object_get(db, "advice"));

                if (advice != NULL &&
                    passing_of(&d->config, answer_text(db, "name")) != WAL_PASSTHROUGH_OFF)
                        doctor_add(d, DOCTOR_WARN, "wal", "man litefs.yml", "%s", advice);
                else if (advice != NULL)
                        doctor_add(d, DOCTOR_OK, "wal", NULL, "%s", advice);
        }
}

void
doctor_check_node(struct doctor *d)
{
        struct err e = ERR_INIT;
        int r;

        if (d->lock_pid == 0) {
                doctor_add(d, DOCTOR_WARN, "node", "systemctl start litefs", "litefs does not run");
                return;
        }
        if (!d->has_client)
                return;
        r = client_get_json(&d->client, d->client.base, "/info", &d->info, &e);
        if (r == 0)
                r = client_get_json(&d->client, d->client.base, "/db", &d->databases, &e);
        if (r < 0) {
                doctor_add(d, DOCTOR_FAIL, "node", "systemctl restart litefs",
                           "litefs runs (process %d) but does not answer: %s", d->lock_pid, e.text);
                return;
        }
        if (!check_wait(d))
                check_ready(d);
        check_advertised(d);
        check_advice(d);
        doctor_each_database(d, check_is_open, d);
}

/* --- the lease, and the primary that it names --- */

static void
ask_primary_of_lease(struct doctor *d)
{
        struct err e = ERR_INIT;
        char next[LEASE_URL_SIZE + 32];
        int r = client_get_json(&d->client, d->holder.advertise_url, "/info", &d->primary_info, &e);

        snprintf(next, sizeof next, "curl -sS %s/info", d->holder.advertise_url);
        if (r < 0)
                doctor_add(d, DOCTOR_FAIL, "primary", next, "the primary, %s, does not answer: %s",
                           d->holder.hostname, e.text);
        else if (!json_is_true(json_object_get(d->primary_info, "isPrimary")))
                doctor_add(d, DOCTOR_FAIL, "primary", next, "%s at %s is not the primary, but should be",
                           d->holder.hostname, d->holder.advertise_url);
        else
                doctor_add(d, DOCTOR_OK, "primary", NULL, "%s answers at %s", d->holder.hostname,
                           d->holder.advertise_url);
}

static void
check_holder(struct doctor *d)
{
        const char *type = d->config.lease.type;

        if (!d->holder.has_holder) {
                doctor_add(d, DOCTOR_WARN, "lease", "litefs status",
                           "%s answers, but nobody holds the lease: nobody can write", type);
                return;
        }
        doctor_add(d, DOCTOR_OK, "lease", NULL, "%s: held by %s, term %llu", type, d->holder.hostname,
                   (unsigned long long)d->holder.term);
        if (!is_primary(d) && d->has_client &&
            strcmp(d->holder.advertise_url, d->config.lease.advertise_url) != 0)
                ask_primary_of_lease(d);
}

/* The primary of a static lease is who the configuration says; there is nothing to ask. */
static void
check_static(struct doctor *d)
{
        const struct config *c = &d->config;
        const char *hostname, *url;
        char host[LEASE_HOSTNAME_SIZE];

        if (c->lease.candidate) {
                doctor_add(d, DOCTOR_OK, "lease", NULL, "static: this node is the primary");
                return;
        }
        make_lease_static_primary(c, &hostname, &url, host);
        snprintf(d->holder.hostname, sizeof d->holder.hostname, "%s", hostname);
        snprintf(d->holder.advertise_url, sizeof d->holder.advertise_url, "%s", url);
        doctor_add(d, DOCTOR_OK, "lease", NULL, "static: the primary is %s at %s", hostname, url);
        if (d->has_client)
                ask_primary_of_lease(d);
}

void
doctor_check_lease(struct doctor *d)
{
        struct lease *l = NULL;
        struct err e = ERR_INIT;
        char next[1200];
        int r;

        if (strcmp(d->config.lease.type, "static") == 0) {
                check_static(d);
                return;
        }
        r = make_lease(&d->config, false, &l, &e);
        if (r == 0)
                r = l->ops->read(l, &d->holder, &e);
        if (r == 0)
                r = l->ops->get_cluster_id(l, d->lease_cluster_id, &e);
        suggest_lease(&d->config, r < 0 ? e.text : "", next, sizeof next);
        d->is_lease_known = r == 0;
        if (r < 0)
                doctor_add(d, DOCTOR_FAIL, "lease", next, "%s: %s", d->config.lease.type, e.text);
        else
                check_holder(d);
        if (l != NULL)
                l->ops->free(l);
}

/* --- clocks --- */

/* Any answer has a Date; @ret_ahead_s is how far that clock is ahead of ours, 0 within its resolution. */
static int
ask_clock(struct http_client *http, const char *base, const char *path, int64_t *ret_ahead_s)
{
        char url[LEASE_URL_SIZE + 64];
        struct http_request rq = {
                .method = "GET", .url = url, .timeout_ms = REQUEST_MS, .max_response_size = 1 << 20
        };
        struct http_response rs;
        int64_t before = time(NULL), after;
        int r;

        snprintf(url, sizeof url, "%s%s", base, path);
        r = http_client_do(http, &rq, &rs, NULL);
        after = time(NULL);
        if (r < 0 || rs.date_s <= 0)
                return r < 0 ? r : -ENODATA;
        *ret_ahead_s = rs.date_s < before  ? rs.date_s - before
                       : rs.date_s > after ? rs.date_s - after
                                           : 0;
        return 0;
}

static int
ask_lease_clock(const struct config *c, int64_t *ret_ahead_s)
{
        bool is_consul = strcmp(c->lease.type, "consul") == 0;
        struct http_client_options o = {
                .ca = is_consul ? c->lease.consul.ca : c->lease.etcd.ca,
                .cert = is_consul ? c->lease.consul.cert : c->lease.etcd.cert,
                .cert_key = is_consul ? c->lease.consul.cert_key : c->lease.etcd.cert_key,
        };
        struct http_client *http = NULL;
        struct http_url url;
        int r;

        if (!is_consul && c->lease.etcd.endpoints.n == 0)
                return -ENODATA;
        r = http_url_parse(is_consul ? c->lease.consul.url : c->lease.etcd.endpoints.items[0], &url,
                           NULL);
        if (r == 0)
                r = http_client_new(&o, &http, NULL);
        if (r == 0)
                r = ask_clock(http, url.base, is_consul ? "/v1/status/leader" : "/health", ret_ahead_s);
        http_client_free(http);
        return r;
}

void
doctor_check_clock(struct doctor *d)
{
        const char *whose = "the primary";
        int64_t ahead_s = 0, off_s;
        int r = -ENODATA;

        if (d->primary_info != NULL)
                r = ask_clock(d->client.others, d->holder.advertise_url, "/healthz", &ahead_s);
        if (r < 0 && d->is_lease_known && strcmp(d->config.lease.type, "file") != 0) {
                whose = d->config.lease.type;
                r = ask_lease_clock(&d->config, &ahead_s);
        }
        if (r < 0)
                return; /* nobody to compare with */
        off_s = ahead_s < 0 ? -ahead_s : ahead_s;
        if (off_s < CLOCK_WARN_S)
                doctor_add(d, DOCTOR_OK, "clock", NULL, "agrees with that of %s", whose);
        else
                doctor_add(
                        d, off_s < CLOCK_FAIL_S ? DOCTOR_WARN : DOCTOR_FAIL, "clock",
                        "timedatectl timesync-status",
                        "is %lld s %s that of %s: lag, retention and times of transactions are wrong by that",
                        (long long)off_s, ahead_s < 0 ? "ahead of" : "behind", whose);
}

/* --- the cluster's id --- */

void
doctor_check_cluster_id(struct doctor *d)
{
        const char *other = d->lease_cluster_id, *whose = d->config.lease.type;
        char id[LEASE_CLUSTER_ID_SIZE] = "", next[1200];
        struct err e = ERR_INIT;

        if (cluster_id_load(os_host(), d->config.data.dir, id, &e) < 0) {
                snprintf(next, sizeof next, "cat %s/clusterid", d->config.data.dir);
                doctor_add(d, DOCTOR_FAIL, "cluster", next, "%s", e.text);
                return;
        }
        if (other[0] == '\0' && d->primary_info != NULL) {
                other = answer_text(d->primary_info, "clusterID");
                whose = "the primary";
        }
        snprintf(next, sizeof next, "mv %s %s.old", d->config.data.dir, d->config.data.dir);
        if (id[0] != '\0' && other[0] != '\0' && strcmp(id, other) != 0)
                doctor_add(
                        d, DOCTOR_FAIL, "cluster", next,
                        "the data is of cluster %s, but %s says %s: correct the lease in %s, or set the data aside",
                        id, whose, other, d->config.path);
        else if (id[0] != '\0')
                doctor_add(d, DOCTOR_OK, "cluster", NULL, "%s", id);
        else if (other[0] != '\0')
                doctor_add(d, DOCTOR_OK, "cluster", NULL, "this node is new to cluster %s", other);
        else
                doctor_add(d, DOCTOR_OK, "cluster", NULL, "this node has not been in one yet");
}

/* --- positions --- */

static struct ltx_pos
position_of_answer(const json_t *db)
{
        return (struct ltx_pos){ strtoull(answer_text(db, "txid"), NULL, 16),
                                 strtoull(answer_text(db, "postApplyChecksum"), NULL, 16) };
}

/* Where this node stands, read before the primary is asked: that it is ahead then is no matter of when. */
struct position {
        struct position *next;
        struct ltx_pos pos;
        char name[DBNAME_MAX + 1];
};

struct positions {
        struct doctor *d;
        struct position *list;
        unsigned n_same, n_behind;
        unsigned long long n_missing; /* transactions */
};

/* One without a position has nothing to be compared; what is wrong with its log has been said. */
static void
collect_local_position(void *arg, const char *name)
{
        struct positions *p = arg;
        struct position *one = malloc(sizeof *one);

        if (one == NULL || doctor_local_position(p->d, name, &one->pos, NULL) <= 0) {
                free(one);
                return;
        }
        snprintf(one->name, sizeof one->name, "%s", name);
        one->next = p->list;
        p->list = one;
}

static void
report_diverged(struct doctor *d, const char *name, struct ltx_pos ours, struct ltx_pos theirs,
                const char *what)
{
        char a[LTX_POS_TEXT_LEN + 1], b[LTX_POS_TEXT_LEN + 1], next[DBNAME_MAX + 64];

        ltx_pos_format(ours, a);
        ltx_pos_format(theirs, b);
        snprintf(next, sizeof next, "litefs ltx list %s", name);
        doctor_add(
                d, DOCTOR_FAIL, "position", next,
                "%s %s: it is at %s here and %s there; as a replica this node sets its own state aside in "
                "%s/orphans and takes the primary's",
                name, what, a, b, d->config.data.dir);
}

static void
compare_position(struct positions *p, const json_t *databases, const char *name, struct ltx_pos ours)
{
        const json_t *db = find_answered_database(databases, name);
        struct ltx_pos theirs;

        if (db == NULL) {
                report_diverged(p->d, name, ours, (struct ltx_pos){ 0 }, "is not known to the primary");
                return;
        }
        theirs = position_of_answer(db);
        if (ours.txid == theirs.txid && ours.checksum != theirs.checksum)
                report_diverged(p->d, name, ours, theirs, "differs from the primary's");
        else if (ours.txid > theirs.txid && doctor_has_been_at(p->d, name, theirs) == 1)
                report_diverged(p->d, name, ours, theirs, "has transactions that the primary lacks");
        else if (ours.txid > theirs.txid)
                report_diverged(p->d, name, ours, theirs, "has another history than the primary's");
        else if (ours.txid == theirs.txid)
                p->n_same++;
        else
                p->n_behind++, p->n_missing += theirs.txid - ours.txid;
}

/* On the primary: what its replicas have acknowledged. */
static void
check_replicas_of(struct doctor *d, const json_t *db)
{
        uint64_t ours = position_of_answer(db).txid;
        char next[LEASE_HOSTNAME_SIZE + 32];
        size_t i;
        json_t *rp;

        json_array_foreach(json_object_get(db, "replicas"), i, rp)
        {
                uint64_t theirs = position_of_answer(rp).txid;

                snprintf(next, sizeof next, "ssh %s litefs doctor", answer_text(rp, "hostname"));
                if (ours > theirs + MISSING_WARN)
                        doctor_add(d, DOCTOR_WARN, "position", next,
                                   "%s is %llu transactions behind on %s", answer_text(db, "name"),
                                   (unsigned long long)(ours - theirs), answer_text(rp, "hostname"));
        }
}

static void
check_replicas(struct doctor *d)
{
        const json_t *databases = json_object_get(d->databases, "databases");
        size_t i;
        json_t *db;

        json_array_foreach(databases, i, db) check_replicas_of(d, db);
        doctor_add(d, DOCTOR_OK, "position", NULL,
                   "this node is the primary, of %zu databases and %zu replicas",
                   json_array_size(databases), json_array_size(json_object_get(d->info, "replicas")));
}

static void
report_positions(struct doctor *d, const struct positions *p)
{
        bool is_late = d->lock_pid != 0 && p->n_missing > MISSING_WARN;

        if (p->n_behind > 0)
                doctor_add(d, is_late ? DOCTOR_WARN : DOCTOR_OK, "position",
                           is_late ? "litefs status" : NULL,
                           "%u databases are as the primary's, %u lack %llu transactions in all",
                           p->n_same, p->n_behind, p->n_missing);
        else if (p->n_same > 0)
                doctor_add(d, DOCTOR_OK, "position", NULL, "%u databases are as the primary's",
                           p->n_same);
}

void
doctor_check_positions(struct doctor *d)
{
        struct positions p = { .d = d };
        json_t *databases = NULL;

        if (is_primary(d)) {
                check_replicas(d);
                return;
        }
        if (d->primary_info == NULL)
                return; /* why has been said */
        doctor_each_database(d, collect_local_position, &p);
        if (client_get_json(&d->client, d->holder.advertise_url, "/db", &databases, NULL) == 0) {
                for (const struct position *one = p.list; one != NULL; one = one->next)
                        compare_position(&p, databases, one->name, one->pos);
                report_positions(d, &p);
        }
        json_decref(databases);
        while (p.list != NULL) {
                struct position *one = p.list;

                p.list = one->next;
                free(one);
        }
}
