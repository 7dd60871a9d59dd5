/* lib/store/spare.h - file descriptors for those who need them: idle databases have theirs closed when half of what there is
 * for files is in use (base/descriptors.h). The one goes next that was not used since the hand came by last. */
#ifndef LITEFS_STORE_SPARE_H
#define LITEFS_STORE_SPARE_H

#include <stdbool.h>

struct store;

void spare_init(struct store *s);
/* No job is posted from now on; those that are have yet to be waited for. */
void spare_end(struct store *s);
void spare_release(struct store *s);
bool spare_is_wanted(struct store *s);
/* There is one more. Any thread, any lock. */
bool spare_may_open(struct store *s);
/* Until they are scarce no more, or all have had two turns. Waits for the disk. */
void spare_descriptors(struct store *s);
/* The same on a worker, if they are scarce. Any thread, any lock. */
void spare_soon(struct store *s);

#endif
