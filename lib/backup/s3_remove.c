/* Several objects that go by one request (DeleteObjects). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/dest_s3.h"
#include "net/sigv4.h"

#define ENTITY_SIZE 6 /* of a character: "&#60;" */
#define TAGS_SIZE 64

/* False: there is no way to write it in XML. */
static bool
add_xml_text(char *to, size_t *n, const char *text)
{
        for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
                if (*p < 0x20 || *p == 0x7f)
                        return false;
                if (strchr("<>&'\"", *p) != NULL)
                        *n += (size_t)sprintf(to + *n, "&#%d;", *p);
                else
                        to[(*n)++] = (char)*p;
        }
        return true;
}

/* The body, the caller's to free; or NULL. The answer lists what does not go. */
static char *
list_keys(const struct s3 *s, char (*keys)[DEST_KEY_SIZE], size_t n, size_t *ret_n, int *ret_error)
{
        size_t size = 2 * TAGS_SIZE;
        bool is_good = true;
        char *xml;

        for (size_t i = 0; i < n; i++)
                size += ENTITY_SIZE * (strlen(s->prefix) + strlen(keys[i])) + TAGS_SIZE;
        xml = malloc(size);
        *ret_error = xml == NULL ? -ENOMEM : -ENOTSUP;
        if (xml == NULL)
                return NULL;
        *ret_n = (size_t)sprintf(xml, "<Delete><Quiet>true</Quiet>");
        for (size_t i = 0; i < n && is_good; i++) {
                *ret_n += (size_t)sprintf(xml + *ret_n, "<Object><Key>");
                is_good = add_xml_text(xml, ret_n, s->prefix) && add_xml_text(xml, ret_n, keys[i]);
                *ret_n += (size_t)sprintf(xml + *ret_n, "</Key></Object>");
        }
        *ret_n += (size_t)sprintf(xml + *ret_n, "</Delete>");
        if (is_good)
                return xml;
        free(xml);
        return NULL;
}

/* The first that did not go, for they have the same cause mostly. */
static int
check_removed(const struct dest *dest, const struct http_response *rs, struct err *e)
{
        char code[64], key[DEST_KEY_SIZE] = "";

        if (!s3_xml_find(rs->body, rs->body_size, "Code", code, sizeof code))
                return 0;
        (void)s3_xml_find(rs->body, rs->body_size, "Key", key, sizeof key);
        return err_text(e, strcmp(code, "AccessDenied") == 0 ? -EACCES : -EIO, "%s: remove %s: %s",
                        dest->url, key, code);
}

int
s3_remove_all(struct dest *dest, char (*keys)[DEST_KEY_SIZE], size_t n, struct err *e)
{
        struct dest_s3 *d = (struct dest_s3 *)dest;
        char header[SIGV4_MD5_SIZE + 16], md5[SIGV4_MD5_SIZE];
        struct s3_call call = { .method = "POST", .query = "delete=", .headers = { header } };
        struct http_response rs;
        int r;
        char *xml = d->removes_singly ? NULL : list_keys(&d->s3, keys, n, &call.body_size, &r);

        if (d->removes_singly)
                return -ENOTSUP;
        if (xml == NULL)
                return r == -ENOMEM ? err_set(e, r, "%s: remove", dest->url) : r;
        sigv4_md5(xml, call.body_size, md5);
        snprintf(header, sizeof header, "content-md5: %s", md5);
        call.body = xml;
        r = s3_do(&d->s3, &call, &rs, e);
        free(xml);
        if (r == -EINVAL || r == -ENOTSUP || r == E_NOT_FOUND) {
                d->removes_singly = true;
                return -ENOTSUP;
        }
        return r == 0 ? check_removed(dest, &rs, e) : r;
}
