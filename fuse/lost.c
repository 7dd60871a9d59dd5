#include "fuse/lost.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuse/fuse_internal.h"
#include "fuse/own_mount.h"

struct lost_node {
        struct lost_node *next;
        struct inode *in, *parent; /* referenced */
        enum live_kind kind;
        const char *name;
        char database[];
};

void
lost_note(struct session *s, struct inode *in, const char *name, const char *database,
          enum live_kind kind)
{
        size_t n = strlen(database) + 1, n_name = strlen(name) + 1;
        struct lost_node *lost = malloc(sizeof *lost + n + n_name);

        if (lost == NULL)
                return;
        *lost = (struct lost_node){ s->lost, in, in->parent, kind, lost->database + n };
        memcpy(lost->database, database, n);
        memcpy(lost->database + n, name, n_name);
        inode_ref(lost->in);
        inode_ref(lost->parent);
        s->lost = lost;
}

static bool
has_lost_index(const struct lost_node *list, const char *database)
{
        for (; list != NULL; list = list->next)
                if (list->kind == LIVE_WAL_INDEX && strcmp(list->database, database) == 0)
                        return true;
        return false;
}

void
lost_free(struct lost_node *list)
{
        while (list != NULL) {
                struct lost_node *next = list->next;

                free(list);
                list = next;
        }
}

/* By a teller. The wal-indexes first: who reads one that is invalid reads no page of the database any more. */
static int
tell_lost(void *arg)
{
        struct session *s = arg;
        int fd = fuse_session_fd(s->se);

        for (const struct lost_node *l = s->lost; l != NULL; l = l->next)
                if (l->kind == LIVE_WAL_INDEX && own_mount_enter(s, "invalidation") == 0)
                        live_node_revoke(fd, l->in->id, l->kind, true);
        for (const struct lost_node *l = s->lost; l != NULL; l = l->next) {
                if (l->kind != LIVE_WAL_INDEX && own_mount_enter(s, "invalidation") == 0)
                        live_node_revoke(fd, l->in->id, l->kind, has_lost_index(s->lost, l->database));
                if (own_mount_enter(s, "removal of a name") == 0)
                        (void)fuse_lowlevel_notify_delete(s->se, l->parent->id, l->in->id, l->name,
                                                          strlen(l->name));
        }
        pthread_mutex_lock(&s->lock);
        for (const struct lost_node *l = s->lost; l != NULL; l = l->next) {
                inode_unref(&s->inodes, l->in, 1);
                inode_unref(&s->inodes, l->parent, 1);
        }
        pthread_mutex_unlock(&s->lock);
        lost_free(s->lost);
        s->lost = NULL;
        return 0;
}

void
lost_tell(struct session *s)
{
        if (s->lost != NULL)
                (void)workers_call(s->config.tellers, tell_lost, s);
}
