/* links: litefs_cmd */
/* The configuration: environment expansion, YAML, the key table, the rules. Nothing may crash, leak or take
 * long; a parse that succeeds must leave a struct that the rules can judge. */
#include <stdlib.h>
#include <string.h>

#include "cmd/litefs/config.h"
#include "tests/fuzz/target.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char *text = malloc(size + 1);
        struct config c;
        struct err e = ERR_INIT;

        if (text == NULL)
                return 0;
        memcpy(text, data, size);
        text[size] = '\0';
        for (int is_verbatim = 0; is_verbatim < 2; is_verbatim++) {
                if (config_init(&c) == 0 && config_parse(&c, "fuzz.yml", text, is_verbatim, &e) == 0)
                        (void)config_validate(&c, &e);
                config_release(&c);
        }
        free(text);
        return 0;
}
