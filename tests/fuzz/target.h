/* tests/fuzz/target.h - what libFuzzer calls, and how a target says that something is wrong. */
#ifndef LITEFS_TESTS_FUZZ_TARGET_H
#define LITEFS_TESTS_FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* assert() that is there in every build. */
#define FUZZ_CHECK(condition) \
        do { \
                if (!(condition)) { \
                        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
                        abort(); \
                } \
        } while (0)

#endif
