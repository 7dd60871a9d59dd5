#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/litefs/command.h"
#include "cmd/litefs/config.h"
#include "cmd/litefs/daemon.h"
#include "cmd/litefs/exec.h"
#include "cmd/litefs/flags.h"
#include "cmd/litefs/help.h"
#include "cmd/litefs/mount.h"
#include "cmd/litefs/node_flags.h"
#include "cmd/litefs/secrets.h"
#include "cmd/litefs/takeover.h"

#define ABANDONED_MS 10000 /* for an application that nobody answers any more */

struct mount {
        struct config config;
        struct exec *exec;
        char **environment; /* of the application */
        const char *config_path;
        struct node_flags node;
        bool no_expand_env, skip_unmount, moves_aside, fuse_debug, debug, tracing;
        struct takeover *takeover; /* of a node that runs; NULL: it starts */
        int parcel_fd;             /* for the next program of this process; -1: the node has ended */
        bool is_mounted;           /* it started: what goes wrong from now on is no start-up error */
        bool is_adopted;           /* exec has the application of the program before */
};

static int
print_mount_help(const struct flag *flags, const char *format)
{
        static const struct help_row examples[] = {
                { "litefs mount ./db",
                  "open databases in ./db as a single node, without a configuration" },
                { "litefs mount", "run as the configuration says, until a signal comes" },
                { "litefs mount -config ./litefs.yml -- ./app -port 8080",
                  "run an application with it; both end together" },
                { "litefs mount -follow http://node1:20202 -token-file token ./db",
                  "run a replica of node1" },
                { "litefs mount -lease etcd://localhost:2379/app -addr 127.0.0.1:20203 ./db2",
                  "run a second node of a cluster on this machine" },
                { 0 },
        };
        static const struct help_row exits[] = {
                { "0", "stopped by SIGINT or SIGTERM, or the application ended with 0" },
                { "1", "could not start or serve; the reason is the line that begins with ERROR:" },
                { "2", "the configuration or an argument is wrong: a restart does not help" },
                { "other", "exit status of the application, which ended by itself" },
                { 0 },
        };
        static const struct help help = {
                .name = "mount",
                .synopsis = "[flags] [-- CMD ARGS...]\n[flags] DIR [-- CMD ARGS...]",
                .about =
                        "Mounts the file system and serves it until SIGINT or SIGTERM, or until CMD ends. CMD replaces\n"
                        "the key exec of the configuration. SIGUSR1 logs the numbers of requests.\n"
                        "\n"
                        "Without -config the configuration is ./litefs.yml, ~/litefs.yml or /etc/litefs.yml. With DIR no\n"
                        "file is read: the flags set what differs from the defaults, and the databases are kept beside\n"
                        "the mount, in DIR.litefs. `litefs init` writes a file with the same settings.",
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
print_origin(const struct config *c)
{
        char text[PATH_MAX + 64];

        if (c->path[0] != '\0')
                snprintf(text, sizeof text, "config file read from %s", c->path);
        else
                snprintf(text, sizeof text, "no config file is read; databases are kept in %s",
                         c->data.dir);
        print_notice(text);
}

/* From the flags when a directory is named, else from a file. */
static int
load_node(struct mount *m, const struct flag_words *w, struct err *e)
{
        const char *flag = node_flags_any(&m->node);
        int r;

        if (w->n > 1)
                return err_text(e, -EINVAL,
                                "too many arguments, specify a '--' to specify an exec command");
        if (w->n == 1 && m->config_path != NULL)
                return err_text(e, -EINVAL,
                                "%s and -config contradict each other: the file names the mount "
                                "(fuse.dir); leave one of them out",
                                w->words[0]);
        if (w->n == 0 && flag != NULL)
                return err_text(
                        e, -EINVAL,
                        "-%s goes with the directory to mount at, as in `litefs mount -%s ... DIR`: "
                        "without one, the configuration says it",
                        flag, flag);
        r = w->n == 1 ? node_flags_apply(&m->node, w->words[0], &m->config, e)
                      : config_load(&m->config, m->config_path, m->no_expand_env, e);
        return r;
}

/* The words behind "--" replace `exec`: they run as the last of its commands would have. */
static int
set_command(struct config *c, const struct flag_words *w)
{
        char user[LOGIN_NAME_MAX];
        char *line = exec_join((const char *const *)w->rest, (size_t)w->n_rest);
        int r;

        if (line == NULL)
                return -ENOMEM;
        snprintf(user, sizeof user, "%s", c->n_exec > 0 ? c->exec[c->n_exec - 1].user : "");
        config_clear_exec(c);
        r = config_add_exec(c, line, user, false);
        free(line);
        return r;
}

/* What is read for the sake of LiteFS's configurations and has no effect: tests/lint/config_keys.py. */
void
warn_not_served(const struct config *c)
{
        if (c->lease.databases.n > 0)
                log_warn("lease.databases is set, but a replica cannot leave databases out: this node "
                         "replicates all of them");
        if (c->http.snapshot_timeout_ns != c->data.retention_ns)
                log_info(
                        "http.snapshot-timeout is set, but has no effect: a snapshot takes as long as it "
                        "takes, and holds nobody up");
        if (c->backup.type[0] != '\0')
                log_warn(
                        "backup.type is litefs-cloud, a service that ended on 2024-10-15: nothing is backed up "
                        "there; name another destination (backup.url)");
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

/* 0, or 1 + the exit status. */
static int
parse_mount_words(struct mount *m, int argc, char **argv)
{
        const struct flag flags[] = {
                { "config", "PATH", "configuration file", NULL, &m->config_path },
                { "no-expand-env", NULL, "leave $VARIABLES in the configuration as they are",
                  &m->no_expand_env, NULL },
                { "skip-unmount", NULL, "do not clear a stale mount first", &m->skip_unmount, NULL },
                { "move-aside", NULL,
                  "move databases out of the bare mount point to DATA/orphans, instead of failing to start",
                  &m->moves_aside, NULL },
                { "fuse.debug", NULL, "log every file system request", &m->fuse_debug, NULL },
                { "debug", NULL, "log debug messages", &m->debug, NULL },
                { "tracing", NULL, "accepted for LiteFS; has no effect", &m->tracing, NULL },
                NODE_FLAGS(&m->node),
                { 0 },
        };
        struct err e = ERR_INIT;
        struct flag_words w;
        int r;

        r = flags_parse(flags, argc, argv, &w, &e);
        if (r > 0)
                return 1 + print_mount_help(flags, w.help);
        if (r == 0)
                r = config_init(&m->config);
        if (r == 0)
                r = load_node(m, &w, &e);
        if (r == -EINVAL)
                return 1 + help_mistake("mount", e.text);
        if (r == 0) {
                configure_log(m);
                print_origin(&m->config);
                r = config_validate(&m->config, &e);
        }
        if (r == 0 && w.n_rest > 0)
                r = set_command(&m->config, &w);
        if (r < 0) {
                print_error(r, &e);
                return 1 + EXIT_USAGE;
        }
        return 0;
}

/* However early a signal comes, it is the application's, too. */
static int
on_guarded(void *arg, struct err *e)
{
        struct mount *m = arg;
        pid_t pid = m->takeover != NULL ? takeover_facts(m->takeover)->application_pid : 0;
        int r = pid > 0 ? exec_adopt(m->exec, pid, e) : 0;

        m->is_adopted = pid > 0 && r == 0;
        return r;
}

static int
on_mounted(void *arg, struct err *e)
{
        struct mount *m = arg;
        int r;

        m->is_mounted = true;
        if (m->takeover != NULL)
                return 0; /* the application runs */
        if (m->config.n_exec > 0) {
                m->environment = secrets_strip(&m->config, environ);
                if (m->environment == NULL)
                        return err_set(e, -ENOMEM, "environment of the application");
                exec_set_environment(m->exec, m->environment);
        }
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
        struct mount *m = arg;

        exec_signal(m->exec, sig, config_to_ms(m->config.exec_grace_ns));
}

static pid_t
on_ask_application(void *arg)
{
        struct mount *m = arg;
        pid_t pid = exec_pid(m->exec);
        int code;

        return pid == 0 && exec_result(m->exec, &code) == EXEC_EXITED ? -1 : pid;
}

static void
on_forced_end(void *arg)
{
        exec_kill(((struct mount *)arg)->exec);
}

static void
on_exec_exit(void *arg)
{
        (void)arg;
        daemon_stop();
}

static int
run_mount(struct mount *m, struct err *e)
{
        const struct config *c = &m->config;
        struct daemon_options o = {
                .data_dir = c->data.dir,
                .mount_dir = c->fuse.dir,
                .is_allow_other = c->fuse.allow_other,
                .is_fuse_debug = c->fuse.debug || m->fuse_debug,
                .skip_unmount = m->skip_unmount,
                .moves_aside = m->moves_aside,
                .is_compressed = c->data.compress,
                .is_strict = c->strict_verify,
                .retention_ms = config_to_ms(c->data.retention_ns),
                .retention_interval_ms = config_to_ms(c->data.retention_monitor_interval_ns),
                .config = c,
                .takeover = m->takeover,
                .ret_parcel_fd = &m->parcel_fd,
                .application = on_ask_application,
                .arg = m,
                .on_guarded = on_guarded,
                .on_mounted = on_mounted,
                .on_signal = on_signal,
                .on_forced_end = on_forced_end,
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

/* litefs takeover-check VERSION MOUNT DATA PASSES LEASE MOUNT'S WORDS...: whether this program could take over the node that asks it. It is
 * no command for people, and has no help. */
int
command_takeover_check(int argc, char **argv)
{
        struct mount m = { 0 };
        struct takeover_facts facts;
        struct err e = ERR_INIT;
        int code, r = 0;

        if (argc < 5 || strtoul(argv[0], NULL, 10) != TAKEOVER_VERSION) {
                fprintf(stderr,
                        "ERROR: it takes over the state of version %u, and the running node has version %s: "
                        "restart the node\n",
                        TAKEOVER_VERSION, argc > 0 ? argv[0] : "0");
                return 1;
        }
        facts = (struct takeover_facts){ .mount_dir = argv[1],
                                         .data_dir = argv[2],
                                         .passes = strcmp(argv[3], "1") == 0,
                                         .lease = argv[4] };
        code = parse_mount_words(&m, argc - 5, argv + 5) - 1;
        if (code < 0)
                r = takeover_check(&facts, &m.config, &e);
        if (code < 0 && r == 0)
                r = takeover_check_lease(facts.lease, &m.config, &e);
        if (r < 0)
                fprintf(stderr, "ERROR: %s\n", e.text);
        config_release(&m.config);
        return code >= 0 ? code : r < 0;
}

static int
open_takeover(struct mount *m, struct err *e)
{
        int r = takeover_open(&m->takeover, e);

        if (r < 0 || m->takeover == NULL)
                return r;
        r = takeover_check(takeover_facts(m->takeover), &m->config, e);
        /* Where nobody else is left, the node had better go on without its lease. */
        if (r == 0 && takeover_has_way_back(m->takeover))
                r = takeover_check_lease(takeover_facts(m->takeover)->lease, &m->config, e);
        return r;
}

/* No program has the mount any more. The application may wait for an answer of it, and then only its death ends it. */
static void
end_abandoned(struct mount *m)
{
        pid_t pid = m->takeover != NULL ? takeover_facts(m->takeover)->application_pid : 0;

        if (m->exec != NULL && exec_pid(m->exec) > 0)
                exec_signal(m->exec, SIGTERM, ABANDONED_MS);
        else if (pid > 0 && !m->is_adopted)
                kill(pid, SIGTERM);
}

/* Returns only when the node that was to be taken over is lost. */
static void
give_back(struct mount *m, const char *why)
{
        if (m->takeover == NULL)
                return;
        takeover_give_back(m->takeover, why);
        end_abandoned(m);
}

/* The node has ended, or is the next program's. */
static int
end_mount(struct mount *m, int r, struct err *e)
{
        if (m->parcel_fd >= 0) {
                takeover_exec(m->parcel_fd);
                r = err_set(e, -errno, "become the next program");
                end_abandoned(m);
        }
        if (r == 0) {
                int code = exit_status(m);

                log_info("litefs shut down complete");
                return code;
        }
        if (!m->is_mounted)
                give_back(m, e->code != 0 ? e->text : err_code_text(r));
        print_error(r, e);
        if (!m->config.exit_on_error && !m->is_mounted)
                linger();
        return 1;
}

int
command_mount(int argc, char **argv)
{
        struct mount m = { .parcel_fd = -1 };
        struct err e = ERR_INIT;
        int r, code;

        code = parse_mount_words(&m, argc, argv) - 1;
        if (code >= 0) {
                (void)takeover_open(&m.takeover, &e);
                give_back(&m, "its configuration is wrong");
                goto out;
        }
        print_notice(version_text());
        warn_not_served(&m.config);
        daemon_block_signals();
        /* Capabilities that a service manager gave to litefs are not for what it runs. */
        (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        secrets_warn(&m.config);
        r = open_takeover(&m, &e);
        if (r == 0)
                r = exec_new(on_exec_exit, NULL, &m.exec);
        if (r == 0)
                r = run_mount(&m, &e);
        code = end_mount(&m, r, &e);
        exec_free(m.exec);
        free(m.environment);
out:
        takeover_free(m.takeover);
        config_release(&m.config);
        return code;
}
