/* links: litefs_cmd */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/litefs/exec.h"
#include "tests/lib/tmpdir.h"
#include "tests/lib/run.h"

/* --- words --- */

static const struct {
        const char *line;
        const char *words[6];
        bool is_cut;
} lines[] = {
        { "", { NULL }, false },
        { "  \t ", { NULL }, false },
        { "app", { "app" }, false },
        { "  app  -addr :8080\n", { "app", "-addr", ":8080" }, false },
        { "sh -c 'echo \"a b\"'", { "sh", "-c", "echo \"a b\"" }, false },
        { "\"a b\" c", { "a b", "c" }, false },
        { "a'b c'd", { "ab cd" }, false },
        { "''", { "" }, false },
        { "a '' b", { "a", "", "b" }, false },
        { "a\\ b", { "a b" }, false },
        { "a\\\\b \\'", { "a\\b", "'" }, false },
        { "'a\\b'", { "a\\b" }, false },
        { "\"a\\\"b\"", { "a\"b" }, false },
        { "\"it's\" 'a \"b\"'", { "it's", "a \"b\"" }, false },
        { "a\\", { "a\\" }, false },
        /* nothing is expanded */
        { "echo $HOME ~ *.c", { "echo", "$HOME", "~", "*.c" }, false },
        { "echo `date` $(date)", { "echo", "`date`", "$(date)" }, false },
        { "a # b", { "a", "#", "b" }, false },
        /* shell syntax ends the line */
        { "a; b", { "a" }, true },
        { "a b|c", { "a", "b" }, true },
        { "a && b", { "a" }, true },
        { "a > b", { "a" }, true },
        { "a < b", { "a" }, true },
        { "a ';' \"|\" \\&", { "a", ";", "|", "&" }, false },
};

START_TEST(line_is_split_into_words)
{
        bool is_cut = false;
        char **words = exec_split(lines[_i].line, &is_cut);
        size_t i;

        ck_assert_ptr_nonnull(words);
        for (i = 0; lines[_i].words[i] != NULL; i++) {
                ck_assert_msg(words[i] != NULL, "%s: word %zu is missing", lines[_i].line, i);
                ck_assert_str_eq(words[i], lines[_i].words[i]);
        }
        ck_assert_ptr_null(words[i]);
        ck_assert_msg(is_cut == lines[_i].is_cut, "%s", lines[_i].line);
        exec_free_words(words);
}
END_TEST

static const char *const open_quotes[] = { "'", "\"", "a 'b", "a \"b\\\"" };

START_TEST(open_quote_is_refused)
{
        bool is_cut;

        ck_assert_ptr_null(exec_split(open_quotes[_i], &is_cut));
}
END_TEST

START_TEST(joined_words_are_split_into_the_same_words)
{
        const char *const words[] = { "sh", "-c", "echo \"it's\"; exit 3", "", "a\\b", "$x" };
        char *line = exec_join(words, COUNT(words)), **got;
        bool is_cut = true;

        got = exec_split(line, &is_cut);
        ck_assert_ptr_nonnull(got);
        ck_assert(!is_cut);
        for (int i = 0; i < COUNT(words); i++)
                ck_assert_str_eq(got[i], words[i]);
        ck_assert_ptr_null(got[COUNT(words)]);
        exec_free_words(got);
        free(line);
}
END_TEST

START_TEST(one_word_is_a_whole_line)
{
        const char *const words[] = { "app -addr :8080" };
        char *line = exec_join(words, 1);

        ck_assert_str_eq(line, "app -addr :8080");
        free(line);
}
END_TEST

/* --- processes --- */

static struct exec *x;
static sem_t exited;
static struct err error;
static char *dir;

static void
on_exit_of_command(void *arg)
{
        sem_post(arg);
}

static void
setup(void)
{
        struct log_config quiet = { .fd = -1 };

        log_configure(&quiet);
        error = (struct err)ERR_INIT;
        sem_init(&exited, 0, 0);
        ck_assert_int_eq(exec_new(on_exit_of_command, &exited, &x), 0);
        dir = tmpdir_make();
        ck_assert_int_eq(chdir(dir), 0);
}

static void
teardown(void)
{
        exec_free(x);
        sem_destroy(&exited);
        ck_assert_int_eq(chdir("/"), 0);
        tmpdir_remove(dir);
}

static int
run(const char *const *cmds, size_t n)
{
        struct exec_command commands[8];

        for (size_t i = 0; i < n; i++)
                commands[i] = (struct exec_command){ (char *)cmds[i], (char *)"", false };
        return exec_run(x, commands, n, true, &error);
}

static int
run_one(const char *cmd)
{
        return run(&cmd, 1);
}

static bool
exists(const char *name)
{
        return access(name, F_OK) == 0;
}

static void
wait_for_file(const char *name)
{
        for (int i = 0; i < 1000 && !exists(name); i++)
                usleep(10000);
        ck_assert_msg(exists(name), "%s did not appear", name);
}

START_TEST(background_command_that_ends_gives_its_status)
{
        int code;

        ck_assert_int_eq(exec_result(x, &code), EXEC_NONE);
        ck_assert_int_eq(run_one("sh -c 'exit 7'"), 0);
        sem_wait(&exited);
        ck_assert_int_eq(exec_result(x, &code), EXEC_EXITED);
        ck_assert_int_eq(code, 7);
        exec_signal(x, SIGTERM, 0); /* nothing runs any more */
        ck_assert_int_eq(exec_result(x, &code), EXEC_EXITED);
}
END_TEST

START_TEST(death_by_a_signal_is_255)
{
        int code;

        ck_assert_int_eq(run_one("sh -c 'kill -9 $$'"), 0);
        sem_wait(&exited);
        ck_assert_int_eq(exec_result(x, &code), EXEC_EXITED);
        ck_assert_int_eq(code, 255);
}
END_TEST

/* The program before this one may have waited for it in the moment in which it became this one. */
START_TEST(adopted_command_whose_end_is_lost_has_not_succeeded)
{
        pid_t pid = fork();
        int code;

        if (pid == 0)
                _exit(0);
        ck_assert_int_gt(pid, 0);
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        ck_assert_int_eq(exec_adopt(x, pid, &error), 0);
        sem_wait(&exited);
        ck_assert_int_eq(exec_result(x, &code), EXEC_EXITED);
        ck_assert_int_eq(code, 255);
}
END_TEST

START_TEST(signal_is_passed_on_and_the_end_waited_for)
{
        int code;

        ck_assert_int_eq(run_one("sh -c 'trap \"touch trapped; exit 0\" TERM; touch ready; "
                                 "while :; do sleep 0.01; done'"),
                         0);
        wait_for_file("ready");
        ck_assert_int_eq(exec_result(x, &code), EXEC_NONE);
        exec_signal(x, SIGTERM, 0);
        ck_assert(exists("trapped"));
        ck_assert_int_eq(exec_result(x, &code), EXEC_STOPPED);
        ck_assert_int_eq(code, 0);
        exec_free(x);
        x = NULL;
        ck_assert_int_ne(sem_trywait(&exited), 0);
}
END_TEST

START_TEST(status_after_a_signal_is_kept_apart)
{
        int code;

        ck_assert_int_eq(
                run_one("sh -c 'trap \"exit 4\" INT; touch ready; while :; do sleep 0.01; done'"), 0);
        wait_for_file("ready");
        exec_signal(x, SIGINT, 0);
        ck_assert_int_eq(exec_result(x, &code), EXEC_STOPPED);
        ck_assert_int_eq(code, 4);
}
END_TEST

START_TEST(who_does_not_end_is_killed_after_the_grace)
{
        int code;

        ck_assert_int_eq(
                run_one("sh -c 'trap \"touch trapped\" TERM; touch ready; while :; do sleep 0.01; done'"),
                0);
        wait_for_file("ready");
        exec_signal(x, SIGTERM, 300);
        ck_assert(exists("trapped"));
        ck_assert_int_eq(exec_result(x, &code), EXEC_STOPPED);
        ck_assert_int_eq(code, 0);
}
END_TEST

START_TEST(death_by_the_passed_signal_is_in_order)
{
        int code;

        ck_assert_int_eq(run_one("sleep 100"), 0);
        exec_signal(x, SIGTERM, 0);
        ck_assert_int_eq(exec_result(x, &code), EXEC_STOPPED);
        ck_assert_int_eq(code, 0);
}
END_TEST

START_TEST(commands_run_one_after_the_other)
{
        const char *const cmds[] = { "touch a", "sh -c 'test -e a && touch b'",
                                     "sh -c 'test -e b && touch c'" };

        ck_assert_msg(run(cmds, 3) == 0, "%s", error.text);
        sem_wait(&exited);
        ck_assert(exists("c"));
}
END_TEST

START_TEST(failed_synchronous_command_stops_the_rest)
{
        const char *const cmds[] = { "sh -c 'exit 3'", "touch never", "touch never" };

        ck_assert_int_eq(run(cmds, 3), -ECHILD);
        ck_assert_str_eq(error.text, "cannot exec: sync cmd: cannot run command: exit status 3");
        ck_assert(!exists("never"));
}
END_TEST

START_TEST(program_that_is_not_there_is_an_error)
{
        ck_assert_int_eq(run_one("/nonexistent/app -x"), -ENOENT);
        ck_assert_str_eq(error.text, "cannot exec: /nonexistent/app: No such file or directory");
}
END_TEST

START_TEST(line_that_is_no_command_is_an_error)
{
        ck_assert_int_eq(run_one("app 'open"), -EINVAL);
        ck_assert_int_eq(run_one("; app"), -EINVAL);
}
END_TEST

START_TEST(command_for_candidates_is_skipped_on_others)
{
        struct exec_command commands[] = { { (char *)"touch first", (char *)"", true },
                                           { (char *)"touch last", (char *)"", true } };
        int code;

        ck_assert_int_eq(exec_run(x, commands, 2, false, &error), 0);
        ck_assert(!exists("first"));
        ck_assert_int_eq(exec_result(x, &code), EXEC_NONE);
        ck_assert_int_eq(exec_run(x, commands, 2, true, &error), 0);
        sem_wait(&exited);
        ck_assert(exists("first"));
        ck_assert(exists("last"));
}
END_TEST

static void *
signal_when_ready(void *arg)
{
        (void)arg;
        wait_for_file("ready");
        exec_signal(x, SIGTERM, 0);
        return NULL;
}

START_TEST(signal_ends_a_synchronous_command_and_starts_no_other)
{
        const char *const cmds[] = { "sh -c 'touch ready; exec sleep 100'", "touch never" };
        pthread_t thread;
        int code;

        ck_assert_int_eq(pthread_create(&thread, NULL, signal_when_ready, NULL), 0);
        ck_assert_int_eq(run(cmds, 2), 0);
        pthread_join(thread, NULL);
        ck_assert(!exists("never"));
        ck_assert_int_eq(exec_result(x, &code), EXEC_NONE);
}
END_TEST

START_TEST(command_gets_empty_input_and_no_blocked_signal)
{
        sigset_t set;
        int code;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        pthread_sigmask(SIG_BLOCK, &set, NULL);
        signal(SIGPIPE, SIG_IGN);
        /* SIGTERM is bit 14, SIGPIPE bit 12; others may come from whoever started the test. */
        ck_assert_int_eq(run_one("sh -c 'test -z \"$(cat)\" && "
                                 "grep -q \"SigBlk:.*[0-38-b]...$\" /proc/self/status && "
                                 "grep -q \"SigIgn:.*[02468ace]...$\" /proc/self/status'"),
                         0);
        sem_wait(&exited);
        ck_assert_int_eq(exec_result(x, &code), EXEC_EXITED);
        ck_assert_int_eq(code, 0);
}
END_TEST

int
main(void)
{
        Suite *s = suite_create("exec");
        TCase *words = tcase_create("words"), *processes = tcase_create("processes");

        tcase_add_loop_test(words, line_is_split_into_words, 0, COUNT(lines));
        tcase_add_loop_test(words, open_quote_is_refused, 0, COUNT(open_quotes));
        tcase_add_test(words, joined_words_are_split_into_the_same_words);
        tcase_add_test(words, one_word_is_a_whole_line);
        tcase_add_checked_fixture(processes, setup, teardown);
        tcase_set_timeout(processes, 30);
        tcase_add_test(processes, background_command_that_ends_gives_its_status);
        tcase_add_test(processes, death_by_a_signal_is_255);
        tcase_add_test(processes, adopted_command_whose_end_is_lost_has_not_succeeded);
        tcase_add_test(processes, signal_is_passed_on_and_the_end_waited_for);
        tcase_add_test(processes, status_after_a_signal_is_kept_apart);
        tcase_add_test(processes, who_does_not_end_is_killed_after_the_grace);
        tcase_add_test(processes, death_by_the_passed_signal_is_in_order);
        tcase_add_test(processes, commands_run_one_after_the_other);
        tcase_add_test(processes, failed_synchronous_command_stops_the_rest);
        tcase_add_test(processes, program_that_is_not_there_is_an_error);
        tcase_add_test(processes, line_that_is_no_command_is_an_error);
        tcase_add_test(processes, command_for_candidates_is_skipped_on_others);
        tcase_add_test(processes, signal_ends_a_synchronous_command_and_starts_no_other);
        tcase_add_test(processes, command_gets_empty_input_and_no_blocked_signal);
        suite_add_tcase(s, words);
        suite_add_tcase(s, processes);
        return run_suite(s);
}
