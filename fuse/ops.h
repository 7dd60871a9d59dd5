/* fuse/ops.h - the request table for libfuse. */
#ifndef LITEFS_FUSE_OPS_H
#define LITEFS_FUSE_OPS_H

#include <fuse_lowlevel.h>

extern const struct fuse_lowlevel_ops session_ops;

#endif
