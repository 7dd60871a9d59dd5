#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/litefs/command.h"
#include "cmd/litefs/config.h"
#include "cmd/litefs/daemon.h"
#include "cmd/litefs/exec.h"
#include "cmd/litefs/flags.h"

struct mount {
        struct config config;
        struct exec *exec;
        const char *config_path;
        bool no_expand_env, skip_unmount, fuse_debug, debug, tracing;
};

static void
usage(const struct flag *flags)
{
        printf("Mounts the file system and serves it until SIGINT or SIGTERM, or until CMD ends.\n\n"
               "Usage:\n\n    litefs mount [flags] [-- CMD ARGS...]\n\nThe flags are:\n\n");
        flags_print(flags);
        printf("\nWithout -config: ./litefs.yml, ~/litefs.yml, /etc/litefs.yml.\n");
}

/* The words behind "--", joined with spaces, replace `exec`. */
static int
set_command(struct config *c, int argc, char **argv)
{
        size_t n = 1;
        char *line;
        int r;

        for (int i = 0; i < argc; i++)
                n += strlen(argv[i]) + 1;
        line = calloc(1, n);
        if (line == NULL)
                return -ENOMEM;
        for (int i = 0; i < argc; i++) {
                strcat(line, i > 0 ? " " : "");
                strcat(line, argv[i]);
        }
        config_clear_exec(c);
        r = config_add_exec(c, line, false);
        free(line);
        return r;
}

/* 0, or the exit status. */
static int
parse(struct mount *m, int argc, char **argv)
{
        const struct flag flags[] = {
                { "config", "PATH", "configuration file", NULL, &m->config_path },
                { "no-expand-env", NULL, "leave $VARIABLES in the configuration as they are",
                  &m->no_expand_env, NULL },
                { "skip-unmount", NULL, "do not clear a stale mount first", &m->skip_unmount, NULL },
                { "fuse.debug", NULL, "log every file system request", &m->fuse_debug, NULL },
                { "debug", NULL, "log debug messages", &m->debug, NULL },
                { "tracing", NULL, "accepted for LiteFS; has no effect", &m->tracing, NULL },
                { 0 },
        };
        struct err e = ERR_INIT;
        bool had_dashes;
        int next, r;

        r = flags_parse(flags, argc, argv, &next, &had_dashes, &e);
        if (r > 0) {
                usage(flags);
                return EXIT_USAGE;
        }
        if (r == 0 && !had_dashes && next < argc)
                r = err_text(&e, -EINVAL,
                             "too many arguments, specify a '--' to specify an exec command");
        if (r == 0)
                r = config_init(&m->config);
        if (r == 0)
                r = config_load(&m->config, m->config_path, m->no_expand_env, &e);
        if (r == 0) {
                printf("config file read from %s\n", m->config.path);
                r = config_validate(&m->config, &e);
        }
        if (r == 0 && had_dashes && next < argc)
                r = set_command(&m->config, argc - next, argv + next);
        if (r == 0 && strcmp(m->config.lease.type, "static") != 0)
                r = err_text(&e, E_CONFIG,
                             "lease.type %s is read but not served by this version yet; use `static`",
                             m->config.lease.type);
        if (r < 0) {
                fprintf(stderr, "ERROR: %s\n", e.code != 0 ? e.text : err_code_text(r));
                return EXIT_USAGE;
        }
        return 0;
}

static void
configure_log(const struct mount *m)
{
        struct log_config lc = {
                .format = strcmp(m->config.log.format, "json") == 0 ? LOG_JSON : LOG_TEXT,
                .is_debug = m->config.log.debug || m->debug,
                .has_timestamp = m->config.log.timestamp,
                .fd = STDERR_FILENO,
        };

        log_configure(&lc);
}

static int
on_mounted(void *arg, struct err *e)
{
        struct mount *m = arg;
        int r = exec_run(m->exec, m->config.exec, m->config.n_exec, m->config.lease.candidate, e);

        if (r == 0) {
                printf("waiting for signal or subprocess to exit\n");
                fflush(stdout);
        }
        return r;
}

static void
on_signal(void *arg, int sig)
{
        exec_signal(((struct mount *)arg)->exec, sig);
}

static void
on_exec_exit(void *arg)
{
        (void)arg;
        daemon_stop();
}

static int
run(struct mount *m, struct err *e)
{
        const struct config *c = &m->config;
        struct daemon_options o = {
                .data_dir = c->data.dir,
                .mount_dir = c->fuse.dir,
                .is_allow_other = c->fuse.allow_other,
                .is_fuse_debug = c->fuse.debug || m->fuse_debug,
                .skip_unmount = m->skip_unmount,
                .is_compressed = c->data.compress,
                .is_strict = c->strict_verify,
                .retention_ms = c->data.retention_ns / 1000000,
                .retention_interval_ms = c->data.retention_monitor_interval_ns / 1000000,
                .is_primary = c->lease.candidate,
                .hostname = c->lease.hostname,
                .advertise_url = c->lease.advertise_url,
                .arg = m,
                .on_mounted = on_mounted,
                .on_signal = on_signal,
        };

        log_info("Using static primary: primary=%s hostname=%s advertise-url=%s",
                 c->lease.candidate ? "true" : "false", c->lease.hostname, c->lease.advertise_url);
        return daemon_run(&o, e);
}

/* exit-on-error=false keeps the machine up for whoever wants to look at it. */
static void
linger(void)
{
        sigset_t set;
        int sig;

        sigemptyset(&set);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGTERM);
        sigwait(&set, &sig);
}

int
command_mount(int argc, char **argv)
{
        struct mount m = { 0 };
        struct err e = ERR_INIT;
        int r, code = 0;

        r = parse(&m, argc, argv);
        if (r != 0) {
                config_release(&m.config);
                return r;
        }
        print_version();
        configure_log(&m);
        daemon_block_signals();
        r = exec_new(on_exec_exit, NULL, &m.exec);
        if (r == 0)
                r = run(&m, &e);
        if (r < 0) {
                fprintf(stderr, "ERROR: %s\n", e.code != 0 ? e.text : err_code_text(r));
                code = 1;
                if (!m.config.exit_on_error && r != -ECHILD)
                        linger();
        } else if (!exec_has_exited(m.exec, &code)) {
                code = 0;
        }
        if (r == 0)
                log_info("litefs shut down complete");
        exec_free(m.exec);
        config_release(&m.config);
        return code;
}
