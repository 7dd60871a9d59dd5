#include "base/bearer.h"

#include <string.h>
#include <strings.h>

#define SCHEME "Bearer "
#define SCHEME_LEN (sizeof SCHEME - 1)

/* As long as what was given, whatever the token is. */
static bool
is_same(const char *token, const char *given)
{
        size_t n = strlen(given), n_token = strlen(token);
        volatile unsigned char differ = n != n_token;

        for (size_t i = 0; i < n; i++)
                differ |= (unsigned char)(given[i] ^ token[i % n_token]);
        return differ == 0;
}

bool
bearer_matches(const char *header, const char *token)
{
        if (token == NULL || token[0] == '\0')
                return true;
        return header != NULL && strncasecmp(header, SCHEME, SCHEME_LEN) == 0 &&
               is_same(token, header + SCHEME_LEN);
}
