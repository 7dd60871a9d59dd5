/* The status page: page.html, which the build makes an array of (cmake/embed.cmake).
 *
 * Names of databases and nodes come from other machines, so the page may run its own script and nothing else: each
 * answer has a nonce of its own, and what a script could make code of is switched off. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "http/api_internal.h"

#define MARK "@NONCE@"
#define POLICY_MAX 512

extern const char page_html[];
extern const size_t page_html_size;

static void
make_nonce(char ret[33])
{
        unsigned char bytes[16];

        if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
                memset(bytes, 0, sizeof bytes); /* not on a kernel that has FUSE */
        for (size_t i = 0; i < sizeof bytes; i++)
                snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
}

static void
add_page_text(struct text *t, const char *nonce)
{
        const char *p = page_html, *end = page_html + page_html_size, *mark;

        while ((mark = memmem(p, (size_t)(end - p), MARK, sizeof MARK - 1)) != NULL) {
                text_add(t, p, (size_t)(mark - p));
                text_add(t, nonce, strlen(nonce));
                p = mark + sizeof MARK - 1;
        }
        text_add(t, p, (size_t)(end - p));
}

void
api_page(struct api *a, struct http_call *call)
{
        struct text t = { 0 };
        char nonce[33], *policy = malloc(POLICY_MAX);

        (void)a;
        if (policy != NULL) {
                http_call_set_data(call, policy,
                                   free); /* headers are borrowed until the answer is sent */
                make_nonce(nonce);
                snprintf(
                        policy, POLICY_MAX,
                        "default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; img-src data:; "
                        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
                        "require-trusted-types-for 'script'; trusted-types 'none'",
                        nonce, nonce);
                add_page_text(&t, nonce);
        }
        if (policy == NULL || t.is_cut) {
                api_reply_error(call, 500, "out of memory");
        } else {
                http_call_add_header(call, "Content-Security-Policy", policy);
                http_call_add_header(call, "X-Content-Type-Options", "nosniff");
                http_call_add_header(call, "Referrer-Policy", "no-referrer");
                http_call_add_header(call, "Cache-Control", "no-store");
                http_call_reply(call, 200, "text/html; charset=utf-8", t.s, t.n);
        }
        text_release(&t);
}
