/* lib/sqlite/lockbytes.h - the bytes that SQLite locks with fcntl (os_unix.c, wal.c). */
#ifndef LITEFS_SQLITE_LOCKBYTES_H
#define LITEFS_SQLITE_LOCKBYTES_H

/* In NAME. */
#define SQLITE_PENDING_BYTE 0x40000000
#define SQLITE_RESERVED_BYTE (SQLITE_PENDING_BYTE + 1)
#define SQLITE_SHARED_FIRST (SQLITE_PENDING_BYTE + 2)
#define SQLITE_SHARED_SIZE 510

/* In NAME-shm. */
#define SQLITE_WAL_WRITE_LOCK 120
#define SQLITE_WAL_CKPT_LOCK 121
#define SQLITE_WAL_RECOVER_LOCK 122
#define SQLITE_WAL_READ_LOCK(i) (123 + (i)) /* 0..4 */
#define SQLITE_WAL_DMS_LOCK 128

#endif
