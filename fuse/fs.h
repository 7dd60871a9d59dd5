/* fuse/fs.h - the handlers of requests: decode, find the node, call its kind, answer.
 *
 * Every handler runs under the session's lock. One that changes a node which a worker is busy with parks the
 * request and returns without an answer; it will be handled again from the start. */
#ifndef LITEFS_FUSE_FS_H
#define LITEFS_FUSE_FS_H

#include <errno.h>

#include "fuse/fuse_internal.h"

#define NEG_ERRNO(r) ((r) < 0 ? -errno : 0)

/* --- request.c --- */
/* The node that a request is about; NULL when there is none (any more), which has been answered with ESTALE. Counts the
 * request, and logs it when that was asked for. @name may be NULL. */
struct inode *request_node(fuse_req_t req, enum request_type type, fuse_ino_t ino, const char *name);
/* One that has to be a directory: else ENOTDIR. */
struct inode *request_dir(fuse_req_t req, enum request_type type, fuse_ino_t ino, const char *name);
/* The open file of @in that the request names: *@ret is NULL when it names none. False when it names one that is not open,
 * or another node's, which has been answered with EBADF. @fi may be NULL. */
bool request_handle(fuse_req_t req, const struct inode *in, const struct fuse_file_info *fi,
                    struct handle **ret);
/* True when the request was put aside, because a worker changes the node. */
bool request_parks(fuse_req_t req, struct inode *in);
/* Whether @r is E_BUSY: then nothing was done, and the request was put aside as well. */
bool request_was_busy(fuse_req_t req, int r);

/* --- fs_lookup.c --- */
void fs_lookup(fuse_req_t req, fuse_ino_t parent_ino, const char *name);
void fs_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n);
void fs_forget_multi(fuse_req_t req, size_t n, struct fuse_forget_data *list);
void fs_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                struct fuse_file_info *fi);

/* --- fs_create.c --- */
void fs_create(fuse_req_t req, fuse_ino_t parent_ino, const char *name, mode_t mode,
               struct fuse_file_info *fi);
void fs_mknod(fuse_req_t req, fuse_ino_t parent_ino, const char *name, mode_t mode, dev_t rdev);
void fs_mkdir(fuse_req_t req, fuse_ino_t parent_ino, const char *name, mode_t mode);
void fs_symlink(fuse_req_t req, const char *target, fuse_ino_t parent_ino, const char *name);
void fs_readlink(fuse_req_t req, fuse_ino_t ino);
void fs_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent_ino, const char *name);

/* --- fs_remove.c --- */
void fs_unlink(fuse_req_t req, fuse_ino_t parent_ino, const char *name);
void fs_rmdir(fuse_req_t req, fuse_ino_t parent_ino, const char *name);

/* --- fs_rename.c --- */
void fs_rename(fuse_req_t req, fuse_ino_t parent_ino, const char *name, fuse_ino_t to_parent_ino,
               const char *to_name, unsigned flags);

/* --- handle.c --- */
/* A handle on @in in @fi->fh, with a reference. NULL when memory is out. */
struct handle *handle_new(fuse_req_t req, struct inode *in, struct fuse_file_info *fi);
void handle_drop(struct session *s, struct handle *h);

/* --- fs_file.c --- */
void fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void fs_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t n, off_t off,
              struct fuse_file_info *fi);
void fs_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void fs_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
                  struct fuse_file_info *fi);

#endif
