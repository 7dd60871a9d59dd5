/* tests/lib/tmpdir.h - a directory of the test's own, removed at the end. */
#ifndef LITEFS_TESTS_TMPDIR_H
#define LITEFS_TESTS_TMPDIR_H

/* Under $TMPDIR or /tmp; aborts when it cannot be made. The caller frees the name. */
char *tmpdir_make(void);
/* Removes it with all that is in it, and frees the name. */
void tmpdir_remove(char *dir);

#endif
