/* tests/lib/os_crash_disk.h - the disk of os_crash.h: what is durable, and what has been done since.
 *
 * Not locked; os_crash.c holds its lock around each call. Aborts when memory is out. */
#ifndef LITEFS_TESTS_OS_CRASH_DISK_H
#define LITEFS_TESTS_OS_CRASH_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct disk;
struct node; /* a file or a directory, whatever its names; lives as long as the disk */

/* What is below @root now is durable. */
struct disk *disk_new(const char *root);
void disk_free(struct disk *d);

/* The node that @path names now. NULL: none. */
struct node *disk_find(struct disk *d, const char *path);

/* What happens to a file's content. */
void disk_write(struct node *n, const void *buf, size_t size, uint64_t off);
void disk_resize(struct node *n, uint64_t size);
/* A file: its content is durable now. A directory: its names are. */
void disk_sync(struct disk *d, struct node *n);

/* What happens to names. */
struct node *disk_create(struct disk *d, const char *path, bool is_dir);
void disk_unlink(struct disk *d, const char *path);
void disk_rename(struct disk *d, const char *from, const char *to);

/* Makes @root hold one of the states that may survive, as @seed says. The disk is of no more use. */
void disk_crash(struct disk *d, const char *root, uint64_t seed);

#endif
