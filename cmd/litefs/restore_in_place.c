#include "cmd/litefs/restore_in_place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/os.h"
#include "cmd/litefs/answer.h"
#include "cmd/litefs/shell_word.h"
#include "store/dbname.h"

#define STALL_MS 600000 /* the node answers when all is in its log */
#define ANSWER_MAX 65536u

struct state_file {
        struct byte_src base;
        int fd;
        off_t at;
};

static ssize_t
read_state_file(struct byte_src *src, void *buf, size_t n)
{
        struct state_file *f = (struct state_file *)src;
        ssize_t r = os_pread_all(os_host(), "restore:read", f->fd, buf, n, f->at);

        f->at += r > 0 ? r : 0;
        return r;
}

/* @file: the state; NULL: the node has it. *@ret_words is of the client's memory. */
static int
ask(struct in_place *ip, const char *url, struct state_file *file, struct http_response *ret,
    struct err *e)
{
        struct http_request rq = {
                .method = "POST", .url = url, .timeout_ms = STALL_MS, .max_response_size = ANSWER_MAX
        };
        int r;

        if (file != NULL) {
                rq.source = &file->base;
                rq.body_size = (size_t)lseek(file->fd, 0, SEEK_END);
        }
        r = http_client_do(ip->client.http, &rq, ret, e);
        return r < 0 ? client_explain(&ip->client, r, ip->client.base, url, e) : 0;
}

static int
send_state(struct in_place *ip, const char *path, struct http_response *ret, struct err *e)
{
        struct state_file f = { .base.read = read_state_file };
        char url[2048];
        int r = client_make_url(ip->client.base, "/restore", "name", ip->name, url, sizeof url);

        if (r < 0)
                return err_set(e, r, "%s", ip->name);
        f.fd = os_open(os_host(), "restore:open", path, O_RDONLY | O_CLOEXEC, 0);
        if (f.fd < 0)
                return err_set(e, f.fd, "open %s", path);
        r = ask(ip, url, &f, ret, e);
        os_close(os_host(), "restore:read", f.fd);
        return r;
}

/* @why: what the node has said of its log. */
static int
restore_from_backup(struct in_place *ip, const char *why, struct http_response *ret, struct err *e)
{
        const char *tmp = getenv("TMPDIR");
        struct err backup = ERR_INIT;
        char dir[512], path[600];
        int r;

        snprintf(dir, sizeof dir, "%s/litefs-restore-XXXXXX",
                 tmp != NULL && tmp[0] != '\0' ? tmp : "/tmp");
        if (mkdtemp(dir) == NULL)
                return err_set(e, -errno, "make a directory for the state in %s", dir);
        snprintf(path, sizeof path, "%s/state", dir);
        r = ip->fetch(ip->arg, path, &backup);
        if (r < 0)
                err_text(e, r, "%.200s; and from a backup: %.200s", why, backup.text);
        else
                r = send_state(ip, path, ret, e);
        (void)unlink(path);
        (void)rmdir(dir);
        return r;
}

static int
report_in_place(const struct in_place *ip, const json_t *answer, struct err *e)
{
        const json_t *before = json_object_get(answer, "before"),
                     *after = json_object_get(answer, "after"),
                     *restored = json_object_get(answer, "restored");
        char flags[4 * PATH_MAX] = "", name[4 * DBNAME_MAX] = "";

        if (ip->is_quiet)
                return 0;
        if (ip->is_json)
                return client_print_json(answer, e);
        if (json_is_object(restored))
                printf("restored %s in place: transaction %s is as it was after %s of %s\n", ip->name,
                       answer_cell(after, "txid"), answer_cell(restored, "txid"),
                       answer_cell(restored, "timestamp"));
        else
                printf("restored %s in place, out of a backup, by transaction %s\n", ip->name,
                       answer_cell(after, "txid"));
        client_add_words(&ip->client, flags, sizeof flags);
        shell_word_add(name, sizeof name, ip->name);
        printf("before: %s/%s; `litefs restore%s -name %s -txid %s` brings that back\n",
               answer_cell(before, "txid"), answer_cell(before, "postApplyChecksum"), flags, name,
               answer_cell(before, "txid"));
        return 0;
}

static int
make_restore_url(const struct in_place *ip, char *buf, size_t size, struct err *e)
{
        int r = client_make_url(ip->client.base, "/restore", "name", ip->name, buf, size);
        size_t n;

        if (r < 0)
                return err_set(e, r, "%s", ip->name);
        n = strlen(buf);
        snprintf(buf + n, size - n, "&to=%s", ip->to);
        return 0;
}

int
restore_in_place(struct in_place *ip, struct err *e)
{
        struct http_response rs = { 0 };
        char url[2048], why[300];
        json_t *answer;
        int r = client_open(&ip->client, e);

        if (r == 0)
                r = make_restore_url(ip, url, sizeof url, e);
        if (r == 0)
                r = ask(ip, url, NULL, &rs, e);
        if (r == 0 && rs.status == 404) {
                snprintf(why, sizeof why, "%.*s", (int)strcspn(rs.body, "\n"), rs.body);
                r = restore_from_backup(ip, why, &rs, e);
        }
        if (r == 0)
                r = client_check(&ip->client, &rs, e);
        if (r < 0)
                return r;
        answer = json_loadb(rs.body, rs.body_size, 0, NULL);
        r = answer == NULL ? err_text(e, -EPROTO, "restored, but the answer of %s is not JSON", url)
                           : report_in_place(ip, answer, e);
        json_decref(answer);
        return r;
}
