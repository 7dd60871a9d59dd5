/* lib/proxy/list.h - a ring of links that lie inside of what they link. */
#ifndef LITEFS_PROXY_LIST_H
#define LITEFS_PROXY_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
        struct list *prev, *next;
};

/* An empty list, and also a link that is in none. */
static inline void
list_init(struct list *l)
{
        l->prev = l->next = l;
}

static inline bool
list_is_empty(const struct list *l)
{
        return l->next == l;
}

/* Puts @link, which is in no list, first. */
static inline void
list_push(struct list *l, struct list *link)
{
        link->prev = l;
        link->next = l->next;
        l->next->prev = link;
        l->next = link;
}

/* Takes it out of its list, if it is in one. */
static inline void
list_remove(struct list *link)
{
        link->prev->next = link->next;
        link->next->prev = link->prev;
        list_init(link);
}

#define LIST_ENTRY(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

#endif
