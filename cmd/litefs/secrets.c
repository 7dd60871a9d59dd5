#include "cmd/litefs/secrets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define EXPOSED (S_IRGRP | S_IWGRP | S_IROTH | S_IWOTH)
#define SHORT 8 /* a secret that is shorter may stand in a variable by chance */

struct secret {
        const char *key;
        const char *value;
};

#define N_ALONE 5
#define N_EACH 4 /* of a destination */
#define N_VALUES (N_ALONE + N_EACH * CONFIG_MAX_BACKUPS)

static void
list_values(const struct config *c, struct secret ret[N_VALUES])
{
        ret[0] = (struct secret){ "http.token", c->http.token };
        ret[1] = (struct secret){ "lease.consul.token", c->lease.consul.token };
        ret[2] = (struct secret){ "backup.auth-token", c->backup.auth_token };
        ret[3] = (struct secret){ "lease.object.secret-access-key", c->lease.object.secret_access_key };
        ret[4] = (struct secret){ "lease.object.session-token", c->lease.object.session_token };
        for (size_t i = 0; i < CONFIG_MAX_BACKUPS; i++) {
                const struct config_backup *b = i < c->n_backups ? &c->backups[i] : &c->backup;
                struct secret *of_it = ret + N_ALONE + N_EACH * i;

                of_it[0] = (struct secret){ "backup.secret-access-key", b->secret_access_key };
                of_it[1] = (struct secret){ "backup.session-token", b->session_token };
                of_it[2] = (struct secret){ "backup.auth-token", b->auth_token };
                of_it[3] = (struct secret){ "backup.sse-customer-key", b->customer_key };
        }
}

void
secrets_each_exposed(const struct config *c,
                     void (*fn)(void *arg, const char *key, const char *path, mode_t mode), void *arg)
{
        const struct secret files[] = {
                { "it holds a token", c->holds_secret ? c->path : "" },
                { "http.token-file", c->http.token_file },
                { "http.tls.key", c->http.tls.key },
                { "lease.consul.cert-key", c->lease.consul.cert_key },
                { "lease.etcd.cert-key", c->lease.etcd.cert_key },
        };
        struct stat st;

        for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
                if (files[i].value[0] != '\0' && stat(files[i].value, &st) == 0 &&
                    (st.st_mode & EXPOSED) != 0)
                        fn(arg, files[i].key, files[i].value, st.st_mode & 0777);
}

static void
warn_of(void *arg, const char *key, const char *path, mode_t mode)
{
        (void)arg;
        log_warn(
                "%s (%s) can be read or written by other users than its owner (mode %03o): chmod 600 %s",
                path, key, (unsigned)mode, path);
}

void
secrets_warn(const struct config *c)
{
        secrets_each_exposed(c, warn_of, NULL);
}

static bool
is_secret(const struct config *c, const char *variable)
{
        const char *value = strchr(variable, '=');
        struct secret secrets[N_VALUES];

        if (value == NULL || value[1] == '\0')
                return false;
        value++;
        if (strncmp(variable, "LITEFS_CLOUD_TOKEN=", 19) == 0 ||
            (strncmp(variable, "CONSUL_HTTP_TOKEN=", 18) == 0 && strcmp(c->lease.type, "consul") == 0))
                return true;
        list_values(c, secrets);
        for (int i = 0; i < N_VALUES; i++)
                if (secrets[i].value[0] != '\0' &&
                    (strcmp(value, secrets[i].value) == 0 ||
                     (strlen(secrets[i].value) >= SHORT && strstr(value, secrets[i].value) != NULL)))
                        return true;
        return false;
}

char **
secrets_strip(const struct config *c, char *const *environment)
{
        size_t n = 0, kept = 0;
        char **ret;

        while (environment[n] != NULL)
                n++;
        ret = calloc(n + 1, sizeof *ret);
        for (size_t i = 0; ret != NULL && i < n; i++) {
                if (is_secret(c, environment[i]))
                        log_info(
                                "the variable %.*s holds a secret of litefs: the application does not get it",
                                (int)strcspn(environment[i], "="), environment[i]);
                else
                        ret[kept++] = environment[i];
        }
        return ret;
}
