/* lib/db/image/carry.h - spools and overlays that a process hands to the one that takes its place (base/parcel.h).
 *
 * What has spilled is handed over as the descriptor of its file, so that a huge transaction is not copied. */
#ifndef LITEFS_DB_IMAGE_CARRY_H
#define LITEFS_DB_IMAGE_CARRY_H

#include "base/parcel.h"
#include "db/image/overlay.h"
#include "db/image/spool.h"

void spool_carry_out(const struct spool *s, struct parcel *p);
/* Into an empty one. -ENOMEM or what the disk says; damage is told by parcel_check. */
int spool_carry_in(struct spool *s, struct parcel_reader *r);
/* Past one that is nobody's any more. */
void spool_carry_skip(struct parcel_reader *r);
void overlay_carry_out(const struct overlay *o, struct parcel *p);
/* Into an empty one, which has its page size then. */
int overlay_carry_in(struct overlay *o, struct parcel_reader *r);
void overlay_carry_skip(struct parcel_reader *r);

#endif
