/* cmd/litefs/answer.h - what a command reads out of a node's answer and shows of it. The node may be of another version, or
 * be none: members may be missing, and be of other types. */
#ifndef LITEFS_CMD_ANSWER_H
#define LITEFS_CMD_ANSWER_H

#include <jansson.h>

/* The member as text, "" when there is none; lives as long as @o. */
const char *answer_text(const json_t *o, const char *key);
/* For tables: "-" for what is missing or empty. */
const char *answer_cell(const json_t *o, const char *key);
/* 0 when there is none. */
long long answer_number(const json_t *o, const char *key);

/* To stdout, with '?' for control characters: terminals act on them, and the names come from other machines. The number
 * of columns. */
int answer_print(const char *s);

#endif
