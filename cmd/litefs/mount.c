#include <errno.h>
#include <limits.h>
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
#include "cmd/litefs/help.h"

struct mount {
        struct config config;
        struct exec *exec;
        const char *config_path;
        bool no_expand_env, skip_unmount, fuse_debug, debug, tracing;
        bool is_mounted; /* it started: what goes wrong from now on is no start-up error */
};

static int
print_help(const struct flag *flags, const char *format)
{
        static const struct help_row examples[] = {
                { "litefs mount", "run as the configuration says, until a signal comes" },
                { "litefs mount -config ./litefs.yml -- ./app -port 8080",
                  "run an application beside it, which ends it" },
                { 0 },
        };
        static const struct help_row exits[] = {
                { "0", "stopped by SIGINT or SIGTERM, or the application ended with 0" },
                { "1", "could not start or serve; the reason is the line that begins with ERROR:" },
                { "2", "the configuration is wrong, or this help was asked for" },
                { "other", "that of the application, which ended by itself" },
                { 0 },
        };
        static const struct help help = {
                .name = "mount",
                .synopsis = "[flags] [-- CMD ARGS...]",
                .about =
                        "Mounts the file system and serves it until SIGINT or SIGTERM, or until CMD ends. CMD\n"
                        "replaces the key exec of the configuration. SIGUSR1 logs the numbers of requests.\n\n"
                        "Without -config: ./litefs.yml, ~/litefs.yml, /etc/litefs.yml.",
                .examples = examples,
                .exits = exits,
        };

        return help_print(&help, flags, format);
}

static void
print_error(int code, const struct err *e)
{
        const char *text = e->code != 0 ? e->text : err_code_text(code);

        if (log_is_json())
                log_error("%s", text);
        else
                fprintf(stderr, "ERROR: %s\n", text);
}

/* What LiteFS prints on stdout, and scripts look for there. In a log of JSON it is an event like the others. */
static void
print_notice(const char *text)
{
        if (log_is_json()) {
                log_info("%s", text);
        } else {
                puts(text);
                fflush(stdout);
        }
}

static void
print_config_path(const char *path)
{
        char text[PATH_MAX + 32];

        snprintf(text, sizeof text, "config file read from %s", path);
        print_notice(text);
}

/* The words behind "--" replace `exec`. */
static int
set_command(struct config *c, const struct flag_words *w)
{
        char *line = exec_join((const char *const *)w->rest, (size_t)w->n_rest);
        int r;

        if (line == NULL)
                return -ENOMEM;
        config_clear_exec(c);
        r = config_add_exec(c, line, false);
        free(line);
        return r;
}

static void
warn_not_served(const struct config *c)
{
        if (c->backup.type[0] != '\0')
                log_warn(
                        "backup.type is set, but backups are not available: nothing is backed up; `litefs "
                        "export` makes a copy");
        if (c->tracing.path[0] != '\0')
                log_info(
                        "tracing.path is set, but there is no trace file: fuse.debug and log.debug say more");
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
        struct flag_words w;
        int r;

        r = flags_parse(flags, argc, argv, &w, &e);
        if (r > 0)
                return print_help(flags, w.help);
        if (r == 0 && w.n > 0)
                r = err_text(&e, -EINVAL,
                             "too many arguments, specify a '--' to specify an exec command");
        if (r == 0)
                r = config_init(&m->config);
        if (r == 0)
                r = config_load(&m->config, m->config_path, m->no_expand_env, &e);
        if (r == 0) {
                configure_log(m);
                print_config_path(m->config.path);
                r = config_validate(&m->config, &e);
        }
        if (r == 0 && w.n_rest > 0)
                r = set_command(&m->config, &w);
        if (r < 0) {
                print_error(r, &e);
                return EXIT_USAGE;
        }
        return 0;
}

static int
on_mounted(void *arg, struct err *e)
{
        struct mount *m = arg;
        int r;

        m->is_mounted = true;
        r = exec_run(m->exec, m->config.exec, m->config.n_exec, m->config.lease.candidate, e);
        if (r < 0 && m->config.exit_on_error)
                return r;
        if (r < 0)
                print_error(r, e);
        print_notice("waiting for signal or subprocess to exit");
        return 0;
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
                .retention_ms = config_to_ms(c->data.retention_ns),
                .retention_interval_ms = config_to_ms(c->data.retention_monitor_interval_ns),
                .config = c,
                .arg = m,
                .on_mounted = on_mounted,
                .on_signal = on_signal,
        };

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

/* The exit status of a node that ended in order. */
static int
exit_status(struct mount *m)
{
        struct err e = ERR_INIT;
        int code;

        switch (exec_result(m->exec, &code)) {
        case EXEC_EXITED:
                return code;
        case EXEC_STOPPED:
                if (code == 0)
                        return 0;
                print_error(
                        err_text(&e, -ECANCELED, "cannot wait for exec process: exit status %d", code),
                        &e);
                return 1;
        default:
                return 0;
        }
}

int
command_mount(int argc, char **argv)
{
        struct mount m = { 0 };
        struct err e = ERR_INIT;
        int r, code;

        code = parse(&m, argc, argv);
        if (code != 0)
                goto out;
        print_notice(version_text());
        warn_not_served(&m.config);
        daemon_block_signals();
        r = exec_new(on_exec_exit, NULL, &m.exec);
        if (r == 0)
                r = run(&m, &e);
        if (r == 0) {
                code = exit_status(&m);
                log_info("litefs shut down complete");
        } else {
                print_error(r, &e);
                code = 1;
                if (!m.config.exit_on_error && !m.is_mounted)
                        linger();
        }
        exec_free(m.exec);
out:
        config_release(&m.config);
        return code;
}
