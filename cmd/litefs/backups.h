/* cmd/litefs/backups.h - the destinations of litefs.yml, each with its uploader.
 *
 * Order: backups_open when the node is open, backups_committed and backups_role_changed from then on, backups_stop before
 * the node stops, backups_free before the store closes. All do nothing without destinations, and with NULL. */
#ifndef LITEFS_CMD_BACKUPS_H
#define LITEFS_CMD_BACKUPS_H

#include <stdint.h>

#include "base/err.h"

struct backups;
struct config;
struct config_backup;
struct db;
struct dest;
struct drill;
struct store;
struct text;
struct uploader;

/* The destination that @backup names, with what the environment has of it. */
int backups_open_dest(const struct config_backup *backup, struct dest **ret, struct err *e);
/* The place that a command's word names: a URL as above, or a database's name, at the first destination of the configuration
 * (@config_path, or the usual one) that has it. */
int backups_open_place(const char *word, const char *config_path, struct dest **ret,
                       char ret_place[1024], struct err *e);
/* Borrows @c and @store. *@ret is NULL when there are no destinations. */
int backups_open(const struct config *c, struct store *store, const char *data_dir, uint64_t boot_id,
                 struct backups **ret, struct err *e);
void backups_committed(struct backups *b, struct db *db);
void backups_role_changed(struct backups *b);
/* Waits until each has what is committed now: uploader_sync. */
int backups_sync(struct backups *b, int64_t timeout_ms, struct err *e);
/* @drill is NULL where none is asked for. */
void backups_each(struct backups *b, void (*fn)(void *arg, struct uploader *up, struct drill *drill),
                  void *arg);
/* backups_report.c: the answer of GET /backup, and metrics. */
void backups_add_json(struct backups *b, struct text *t);
void backups_add_metrics(struct backups *b, struct text *t);
/* Calls @fn with a sentence about each thing that is wrong. */
void backups_each_trouble(struct backups *b, void (*fn)(void *arg, const char *text), void *arg);
/* Brings what was committed there, each for at most @timeout_ms. Again is fine. */
void backups_stop(struct backups *b, int64_t timeout_ms);
void backups_free(struct backups *b);

#endif
