#include "cmd/litefs/config_lease.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cmd/litefs/config_keys.h"

#define FORMS \
        "want etcd://HOST:2379/KEY, consul://HOST:8500/KEY, s3://BUCKET/KEY, file:///PATH for the nodes of one machine, or " \
        "http://HOST:20202, the primary that this node follows"

static bool
take_scheme(const char **at, const char *prefix)
{
        size_t n = strlen(prefix);

        if (strncasecmp(*at, prefix, n) != 0)
                return false;
        *at += n;
        return true;
}

static int
fail_lease_memory(struct err *e)
{
        return err_set(e, -ENOMEM, "lease");
}

/* One of the servers: "HOST[:PORT]" of @n bytes into "SCHEME://HOST:PORT". */
static int
format_server(const char *host, size_t n, const char *scheme, int port, char *buf, size_t size)
{
        const char *bracket = host[0] == '[' ? memchr(host, ']', n) : host;
        bool has_port = bracket != NULL && memchr(bracket, ':', n - (size_t)(bracket - host)) != NULL;
        size_t end;
        int len = has_port ? snprintf(buf, size, "%s%.*s", scheme, (int)n, host)
                           : snprintf(buf, size, "%s%.*s:%d", scheme, (int)n, host, port);

        return bracket == NULL || len >= (int)size || config_url_port(buf, &end) <= 0 ? -EINVAL : 0;
}

/* @rest is "HOST:PORT[,HOST:PORT...]/KEY". */
static int
set_service(struct config *c, const char *url, const char *rest, const char *scheme, struct err *e)
{
        bool is_etcd = strcmp(c->lease.type, "etcd") == 0;
        const char *key = strchr(rest, '/'), *comma;
        char server[1024];

        if (key == NULL || key[1] == '\0')
                return err_text(
                        e, E_CONFIG,
                        "\"%.200s\" names no key: want a name behind the address that the nodes of this "
                        "cluster share, such as %s://localhost:%d/app",
                        url, c->lease.type, is_etcd ? 2379 : 8500);
        for (;; rest = comma + 1) {
                comma = memchr(rest, ',', (size_t)(key - rest));
                if (comma == NULL)
                        comma = key;
                if (format_server(rest, (size_t)(comma - rest), scheme, is_etcd ? 2379 : 8500, server,
                                  sizeof server) < 0)
                        return err_text(e, E_CONFIG, "\"%.200s\" has no address before the key: " FORMS,
                                        url);
                if (!is_etcd && comma < key)
                        return err_text(
                                e, E_CONFIG,
                                "\"%.200s\" names several agents, and Consul is asked at one: leave "
                                "the others out",
                                url);
                if ((is_etcd ? config_list_add(&c->lease.etcd.endpoints, server)
                             : config_set_string(&c->lease.consul.url, server)) < 0)
                        return fail_lease_memory(e);
                if (comma == key)
                        break;
        }
        return config_set_string(is_etcd ? &c->lease.etcd.key : &c->lease.consul.key, key + 1) < 0
                       ? fail_lease_memory(e)
                       : 0;
}

static int
set_lease_type(struct config *c, const char *type, struct err *e)
{
        return config_set_string(&c->lease.type, type) < 0 ? fail_lease_memory(e) : 0;
}

static int
set_primary(struct config *c, const char *url, struct err *e)
{
        size_t end;

        if (config_url_port(url, &end) < 0)
                return err_text(e, E_CONFIG, "\"%.200s\" is not the address of a node: " FORMS, url);
        c->lease.candidate = false;
        return config_set_string(&c->lease.type, "static") < 0 ||
                               config_set_string(&c->lease.primary_url, url) < 0
                       ? fail_lease_memory(e)
                       : 0;
}

/* @rest is what follows "file:". */
static int
set_file(struct config *c, const char *url, const char *rest, struct err *e)
{
        if (strncmp(rest, "//", 2) == 0)
                rest += 2;
        if (rest[0] != '/' || rest[1] == '\0')
                return err_text(
                        e, E_CONFIG,
                        "\"%.200s\" is not an absolute path: want the file that all nodes of this machine share, such "
                        "as file:///var/lib/app/lease",
                        url);
        return set_lease_type(c, "file", e) < 0 || config_set_string(&c->lease.file.path, rest) < 0
                       ? fail_lease_memory(e)
                       : 0;
}

static int
set_object(struct config *c, const char *url, struct err *e)
{
        return set_lease_type(c, "object", e) < 0 || config_set_string(&c->lease.object.url, url) < 0
                       ? fail_lease_memory(e)
                       : 0;
}

int
config_resolve_lease(struct config *c, struct err *e)
{
        static const char *const types[] = { "etcd", "consul" };
        const char *url = c->lease.url, *rest = url;

        if (url[0] == '\0')
                return 0;
        if (c->lease.type[0] != '\0')
                return err_text(e, E_CONFIG, "lease.type is set, too: leave one of them out");
        if (strncasecmp(url, "http://", 7) == 0 || strncasecmp(url, "https://", 8) == 0)
                return set_primary(c, url, e);
        if (strncasecmp(url, "file:", 5) == 0)
                return set_file(c, url, url + 5, e);
        if (strncmp(url, "s3://", 5) == 0)
                return set_object(c, url, e);
        for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
                if (!take_scheme(&rest, types[i]))
                        continue;
                if (set_lease_type(c, types[i], e) < 0)
                        return -ENOMEM;
                if (take_scheme(&rest, "://") || take_scheme(&rest, "+http://"))
                        return set_service(c, url, rest, "http://", e);
                if (take_scheme(&rest, "+https://"))
                        return set_service(c, url, rest, "https://", e);
                break;
        }
        return err_text(e, E_CONFIG, "\"%.200s\" is not the URL of a lease: " FORMS, url);
}
