#include "cmd/litefs/make.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cmd/litefs/bucket.h"
#include "cmd/litefs/config.h"
#include "lease/consul.h"
#include "lease/etcd.h"
#include "lease/file.h"
#include "lease/lease.h"
#include "lease/object.h"

static int64_t
to_ms(int64_t ns)
{
        return ns / 1000000;
}

void
make_lease_static_primary(const struct config *c, const char **ret_hostname, const char **ret_url,
                          char host[LEASE_HOSTNAME_SIZE])
{
        const char *begin = strstr(c->lease.primary_url, "://");

        *ret_hostname = c->lease.hostname;
        *ret_url = c->lease.advertise_url;
        if (begin == NULL)
                return;
        begin += strlen("://");
        snprintf(host, LEASE_HOSTNAME_SIZE, "%.*s",
                 (int)(begin[0] == '[' ? strcspn(begin, "]") + 1 : strcspn(begin, ":/?#")), begin);
        *ret_hostname = host;
        *ret_url = c->lease.primary_url;
}

static int
make_static(const struct config *c, struct lease **ret, struct err *e)
{
        const char *hostname, *url;
        char host[LEASE_HOSTNAME_SIZE];
        int r;

        make_lease_static_primary(c, &hostname, &url, host);
        log_info("Using static primary: primary=%s hostname=%s advertise-url=%s",
                 c->lease.candidate ? "true" : "false", hostname, url);
        r = lease_static_new(c->lease.candidate, hostname, url, ret);
        return r < 0 ? err_set(e, r, "static lease") : 0;
}

static int
make_consul(const struct config *c, struct lease **ret, struct err *e)
{
        struct lease_consul_options o = {
                .url = c->lease.consul.url,
                .key = c->lease.consul.key,
                .hostname = c->lease.hostname,
                .advertise_url = c->lease.advertise_url,
                .token = c->lease.consul.token,
                .ca = c->lease.consul.ca,
                .cert = c->lease.consul.cert,
                .cert_key = c->lease.consul.cert_key,
                .ttl_ms = to_ms(c->lease.consul.ttl_ns),
                .lock_delay_ms = to_ms(c->lease.consul.lock_delay_ns),
        };

        log_info("Using Consul to determine primary: url=%s key=%s", o.url, o.key);
        return lease_consul_new(&o, ret, e);
}

static int
make_etcd(const struct config *c, struct lease **ret, struct err *e)
{
        struct lease_etcd_options o = {
                .endpoints = c->lease.etcd.endpoints.items,
                .n_endpoints = c->lease.etcd.endpoints.n,
                .key = c->lease.etcd.key,
                .hostname = c->lease.hostname,
                .advertise_url = c->lease.advertise_url,
                .ca = c->lease.etcd.ca,
                .cert = c->lease.etcd.cert,
                .cert_key = c->lease.etcd.cert_key,
                .ttl_ms = to_ms(c->lease.etcd.ttl_ns),
        };

        log_info("Using etcd to determine primary: key=%s", o.key);
        return lease_etcd_new(&o, ret, e);
}

static int
make_file_lease(const struct config *c, struct lease **ret, struct err *e)
{
        struct lease_file_options o = {
                .path = c->lease.file.path,
                .hostname = c->lease.hostname,
                .advertise_url = c->lease.advertise_url,
                .ttl_ms = to_ms(c->lease.file.ttl_ns),
        };

        log_info("Using a file to determine primary: path=%s", o.path);
        return lease_file_new(&o, ret, e);
}

static int
make_object_lease(const struct config *c, bool is_tried, struct lease **ret, struct err *e)
{
        const struct bucket_config config = {
                .endpoint = c->lease.object.endpoint,
                .region = c->lease.object.region,
                .access_key_id = c->lease.object.access_key_id,
                .secret_access_key = c->lease.object.secret_access_key,
                .session_token = c->lease.object.session_token,
                .ca = c->lease.object.ca,
                .force_path_style = c->lease.object.force_path_style,
        };
        struct aws_sources sources;
        struct s3_options bucket;
        struct err trouble = ERR_INIT;
        struct lease_object_options o = {
                .url = c->lease.object.url,
                .bucket = &bucket,
                .hostname = c->lease.hostname,
                .advertise_url = c->lease.advertise_url,
                .ttl_ms = to_ms(c->lease.object.ttl_ns),
                .is_tried = is_tried && c->lease.candidate,
                .ret_trouble = &trouble,
        };
        int r;

        bucket_options(&config, &sources, &bucket);
        r = lease_object_new(&o, ret, e);
        if (r < 0)
                return r;
        log_info("Using an object to determine primary: url=%s", (*ret)->key);
        if (trouble.code != 0)
                log_warn("lease: %s: this is tried again", trouble.text);
        return 0;
}

int
make_lease(const struct config *c, bool is_tried, struct lease **ret, struct err *e)
{
        if (strcmp(c->lease.type, "consul") == 0)
                return make_consul(c, ret, e);
        if (strcmp(c->lease.type, "etcd") == 0)
                return make_etcd(c, ret, e);
        if (strcmp(c->lease.type, "file") == 0)
                return make_file_lease(c, ret, e);
        if (strcmp(c->lease.type, "object") == 0)
                return make_object_lease(c, is_tried, ret, e);
        return make_static(c, ret, e);
}

void
make_lease_name(const struct config *c, char buf[LEASE_NAME_SIZE])
{
        const char *key = "", *type = c->lease.type;
        int64_t ttl_ns = 0;

        if (strcmp(type, "consul") == 0) {
                key = c->lease.consul.key;
                ttl_ns = c->lease.consul.ttl_ns;
        } else if (strcmp(type, "etcd") == 0) {
                key = c->lease.etcd.key;
                ttl_ns = c->lease.etcd.ttl_ns;
        } else if (strcmp(type, "file") == 0) {
                key = c->lease.file.path;
                ttl_ns = c->lease.file.ttl_ns;
        } else if (strcmp(type, "object") == 0) {
                key = c->lease.object.url;
                ttl_ns = c->lease.object.ttl_ns;
        }
        snprintf(buf, LEASE_NAME_SIZE, "%s %s (hostname %s, advertise-url %s, ttl %lld ms)", type, key,
                 c->lease.hostname, c->lease.advertise_url, (long long)to_ms(ttl_ns));
}
