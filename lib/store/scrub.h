/* lib/store/scrub.h - a thread that reads every database once after the start and compares each page with its
 * checksum: opening trusts what `base` says of the file, so that a start does not take as long as reading it all.
 *
 * It rests four times as long as it reads. A page that differs stops its database, which is logged with what to
 * do; the others serve on. */
#ifndef LITEFS_STORE_SCRUB_H
#define LITEFS_STORE_SCRUB_H

#include "store/store.h"

struct scrub;

int scrub_new(struct store *s, struct scrub **ret);
/* Ends it within a chunk of pages. Before the store closes. NULL is fine. */
void scrub_free(struct scrub *sc);

#endif
