/* links: litefs_cmd */
#include <check.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/litefs/notifier.h"
#include "tests/lib/run.h"

static char dir[] = "/tmp/litefs-notifier-XXXXXX", path[64];
static int manager;
static struct notifier notifier;
static struct err error;
static char got[1024];

/* A manager's socket at @name, "@..." for the abstract name space. */
static int
listen_at(const char *name)
{
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        ck_assert_int_ge(fd, 0);
        memcpy(a.sun_path, name, strlen(name));
        if (name[0] == '@')
                a.sun_path[0] = '\0';
        ck_assert_int_eq(bind(fd, (struct sockaddr *)&a,
                              (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
                         0);
        return fd;
}

static const char *
received(void)
{
        ssize_t n = recv(manager, got, sizeof got - 1, 0);

        if (n < 0)
                return NULL;
        got[n] = '\0';
        return got;
}

static void
setup(void)
{
        strcpy(dir + strlen(dir) - 6, "XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(dir));
        snprintf(path, sizeof path, "%s/s", dir);
        manager = listen_at(path);
        error = (struct err)ERR_INIT;
        setenv("NOTIFY_SOCKET", path, 1);
        unsetenv("WATCHDOG_USEC");
        unsetenv("WATCHDOG_PID");
}

static void
teardown(void)
{
        notifier_close(&notifier);
        close(manager);
        unlink(path);
        rmdir(dir);
}

START_TEST(message_arrives_as_one_datagram)
{
        ck_assert_int_eq(notifier_open(&notifier, &error), 0);
        ck_assert(notifier_send(&notifier, "READY=1\nSTATUS=%s", "primary"));
        ck_assert(notifier_send(&notifier, "STOPPING=1"));
        ck_assert_str_eq(received(), "READY=1\nSTATUS=primary");
        ck_assert_str_eq(received(), "STOPPING=1");
        ck_assert_ptr_null(received());
}
END_TEST

START_TEST(abstract_socket_is_found)
{
        char name[64];

        close(manager);
        snprintf(name, sizeof name, "@litefs-notifier-%d", (int)getpid());
        manager = listen_at(name);
        setenv("NOTIFY_SOCKET", name, 1);
        ck_assert_int_eq(notifier_open(&notifier, &error), 0);
        ck_assert(notifier_send(&notifier, "READY=1"));
        ck_assert_str_eq(received(), "READY=1");
}
END_TEST

START_TEST(environment_is_not_passed_on)
{
        char pid[16];

        snprintf(pid, sizeof pid, "%d", (int)getpid());
        setenv("WATCHDOG_USEC", "30000000", 1);
        setenv("WATCHDOG_PID", pid, 1);
        ck_assert_int_eq(notifier_open(&notifier, &error), 0);
        ck_assert_int_eq(notifier.watchdog_ms, 30000);
        ck_assert_ptr_null(getenv("NOTIFY_SOCKET"));
        ck_assert_ptr_null(getenv("WATCHDOG_USEC"));
        ck_assert_ptr_null(getenv("WATCHDOG_PID"));
}
END_TEST

START_TEST(watchdog_of_another_process_is_not_ours)
{
        setenv("WATCHDOG_USEC", "30000000", 1);
        setenv("WATCHDOG_PID", "1", 1);
        ck_assert_int_eq(notifier_open(&notifier, &error), 0);
        ck_assert_int_eq(notifier.watchdog_ms, 0);
}
END_TEST

START_TEST(without_a_manager_nothing_happens)
{
        unsetenv("NOTIFY_SOCKET");
        ck_assert_int_eq(notifier_open(&notifier, &error), 0);
        ck_assert_int_eq(notifier.fd, -1);
        ck_assert(!notifier_send(&notifier, "READY=1"));
}
END_TEST

START_TEST(manager_that_is_gone_or_full_holds_nothing_up)
{
        int sent = 0;

        ck_assert_int_eq(notifier_open(&notifier, &error), 0);
        while (notifier_send(&notifier, "WATCHDOG=1"))
                ck_assert_int_lt(++sent, 1000000);
        ck_assert_int_gt(sent, 0);
        close(manager);
        ck_assert(!notifier_send(&notifier, "WATCHDOG=1"));
        manager = -1;
}
END_TEST

static const char *const bad[] = { "relative", "/", "@", "vsock:2:1234" };

START_TEST(address_that_is_none_is_named)
{
        setenv("NOTIFY_SOCKET", bad[_i], 1);
        ck_assert_int_eq(notifier_open(&notifier, &error), -EINVAL);
        ck_assert_ptr_nonnull(strstr(error.text, bad[_i]));
        ck_assert(!notifier_send(&notifier, "READY=1"));
}
END_TEST

START_TEST(address_that_is_too_long_is_refused)
{
        char name[200];

        memset(name, 'x', sizeof name);
        name[0] = '/';
        name[sizeof name - 1] = '\0';
        setenv("NOTIFY_SOCKET", name, 1);
        ck_assert_int_eq(notifier_open(&notifier, &error), -EINVAL);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("notifier");

        tcase_add_checked_fixture(tc, setup, teardown);
        tcase_add_test(tc, message_arrives_as_one_datagram);
        tcase_add_test(tc, abstract_socket_is_found);
        tcase_add_test(tc, environment_is_not_passed_on);
        tcase_add_test(tc, watchdog_of_another_process_is_not_ours);
        tcase_add_test(tc, without_a_manager_nothing_happens);
        tcase_add_test(tc, manager_that_is_gone_or_full_holds_nothing_up);
        tcase_add_loop_test(tc, address_that_is_none_is_named, 0, (int)(sizeof bad / sizeof bad[0]));
        tcase_add_test(tc, address_that_is_too_long_is_refused);
        return run_tests("notifier", tc);
}
