#include <errno.h>
#include <expat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "s3/s3.h"

#define TEXT_SIZE 2048 /* of an element that is looked at: a key has at most 1024 bytes */

/* Text of the element that is open, as long as no other one begins. */
struct xml {
        XML_Parser parser;
        char text[TEXT_SIZE];
        size_t n;
        bool is_cut;
        void (*ended)(struct xml *x, const char *name);
};

static void
begin_element(void *arg, const char *name, const char **attributes)
{
        struct xml *x = arg;

        (void)name, (void)attributes;
        x->n = 0;
        x->is_cut = false;
}

static void
take_xml_text(void *arg, const char *text, int n)
{
        struct xml *x = arg;

        if (x->n + (size_t)n >= sizeof x->text) {
                x->is_cut = true;
                return;
        }
        memcpy(x->text + x->n, text, (size_t)n);
        x->n += (size_t)n;
}

static void
end_element(void *arg, const char *name)
{
        struct xml *x = arg;

        x->text[x->n] = '\0';
        x->ended(x, name);
        x->n = 0;
}

/* Entities of a document's own are nothing that a bucket sends, and could grow without end. */
static void
refuse_doctype(void *arg, const char *name, const char *system_id, const char *public_id, int has_subset)
{
        (void)name, (void)system_id, (void)public_id, (void)has_subset;
        XML_StopParser(((struct xml *)arg)->parser, XML_FALSE);
}

/* Whether it was XML to its end. */
static bool
parse_xml(struct xml *x, const char *text, size_t n)
{
        bool is_whole;

        x->parser = XML_ParserCreate("UTF-8");
        if (x->parser == NULL)
                return false;
        XML_SetUserData(x->parser, x);
        XML_SetElementHandler(x->parser, begin_element, end_element);
        XML_SetCharacterDataHandler(x->parser, take_xml_text);
        XML_SetStartDoctypeDeclHandler(x->parser, refuse_doctype);
        is_whole = n < INT32_MAX && XML_Parse(x->parser, text, (int)n, 1) == XML_STATUS_OK;
        XML_ParserFree(x->parser);
        return is_whole;
}

/* --- one element --- */

struct search {
        struct xml xml;
        const char *element;
        char *ret;
        size_t size;
        bool is_found;
};

static void
search_ended(struct xml *x, const char *name)
{
        struct search *s = (struct search *)x;

        if (s->is_found || x->is_cut || strcmp(name, s->element) != 0 || x->n >= s->size)
                return;
        memcpy(s->ret, x->text, x->n + 1);
        s->is_found = true;
}

bool
s3_xml_find(const char *text, size_t n, const char *element, char *ret, size_t size)
{
        struct search s = { .xml.ended = search_ended, .element = element, .ret = ret, .size = size };

        return parse_xml(&s.xml, text, n) && s.is_found;
}

/* --- a list --- */

struct page {
        struct xml xml;
        s3_list_fn fn;
        void *arg;
        int result;
        bool is_list;
        char key[TEXT_SIZE];
        bool has_key;
        uint64_t size_bytes;
        int64_t time_ms;
};

/* "2026-01-02T03:04:05.678Z" */
static int64_t
parse_time(const char *text)
{
        struct tm tm = { 0 };
        int ms = 0;
        int n = sscanf(text, "%d-%d-%dT%d:%d:%d.%3d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
                       &tm.tm_min, &tm.tm_sec, &ms);

        if (n < 6)
                return 0;
        tm.tm_year -= 1900;
        tm.tm_mon--;
        return (int64_t)timegm(&tm) * 1000 + ms;
}

static void
page_ended(struct xml *x, const char *name)
{
        struct page *p = (struct page *)x;

        if (strcmp(name, "Key") == 0) {
                memcpy(p->key, x->text, x->n + 1);
                p->has_key = !x->is_cut;
        } else if (strcmp(name, "Size") == 0) {
                p->size_bytes = strtoull(x->text, NULL, 10);
        } else if (strcmp(name, "LastModified") == 0) {
                p->time_ms = parse_time(x->text);
        } else if (strcmp(name, "Contents") == 0) {
                if (p->has_key && p->result >= 0)
                        p->result = p->fn(p->arg, p->key, p->size_bytes, p->time_ms);
                p->has_key = false;
        } else if (strcmp(name, "ListBucketResult") == 0) {
                p->is_list = true;
        }
}

int
s3_xml_list(const char *text, size_t n, s3_list_fn fn, void *arg)
{
        struct page p = { .xml.ended = page_ended, .fn = fn, .arg = arg };

        if (!parse_xml(&p.xml, text, n) || !p.is_list)
                return p.result < 0 ? p.result : E_FORMAT;
        return p.result < 0 ? p.result : 0;
}
