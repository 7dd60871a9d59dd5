/* lib/repl/frame_fields.h - the fields that frames are made of; for frame.c and frame_types.c only. Integers are big-endian. */
#ifndef LITEFS_REPL_FRAME_FIELDS_H
#define LITEFS_REPL_FRAME_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ltx/pos.h"
#include "store/dbname.h"

/* Reads fields in order. The first fault sticks, and what is read after it is zero, so that a payload is read
 * as a whole and judged once. */
struct frame_reader {
        const uint8_t *base;
        size_t n;
        size_t off;
        const char *field; /* at fault; NULL while there is none */
        const char *what;
        size_t fault_off;
};

void frame_fault(struct frame_reader *r, const char *field, const char *what, size_t off);
/* Judges the @width bytes of @field that were read last. */
void frame_require(struct frame_reader *r, bool ok, const char *field, size_t width);
const uint8_t *frame_take(struct frame_reader *r, size_t n, const char *field);
uint8_t frame_take_u8(struct frame_reader *r, const char *field);
uint16_t frame_take_u16(struct frame_reader *r, const char *field);
uint32_t frame_take_u32(struct frame_reader *r, const char *field);
uint64_t frame_take_u64(struct frame_reader *r, const char *field);
/* A field that must not be 0. */
uint64_t frame_take_id64(struct frame_reader *r, const char *field);
uint32_t frame_take_stream(struct frame_reader *r);
/* @n bytes without control characters into @ret, which has room for @size with the NUL. */
void frame_take_text(struct frame_reader *r, size_t n, char *ret, size_t size, const char *field);
/* A length and the name of a database. Control characters are allowed: a file name may have them. */
void frame_take_name(struct frame_reader *r, char ret[DBNAME_MAX + 1]);
bool frame_is_position(struct ltx_pos pos);
struct ltx_pos frame_take_pos(struct frame_reader *r);

/* Writes fields in order; once one does not fit, none is written. */
struct frame_writer {
        uint8_t *p;
        size_t left;
        bool is_full;
};

void frame_put(struct frame_writer *w, const void *p, size_t n);
void frame_put_u8(struct frame_writer *w, uint8_t v);
void frame_put_u16(struct frame_writer *w, uint16_t v);
void frame_put_u32(struct frame_writer *w, uint32_t v);
void frame_put_u64(struct frame_writer *w, uint64_t v);
/* Texts of up to 255 bytes; @size is the array's, so a missing NUL is a text that is too long. */
void frame_put_text8(struct frame_writer *w, const char *text, size_t size);
void frame_put_text16(struct frame_writer *w, const char *text, size_t size);

#endif
