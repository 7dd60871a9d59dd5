#include "cmd/litefs/flags.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct flag *
find(const struct flag *flags, const char *name, size_t n)
{
        for (; flags->name != NULL; flags++)
                if (strlen(flags->name) == n && memcmp(flags->name, name, n) == 0)
                        return flags;
        return NULL;
}

static bool
is_help(const char *name, size_t n)
{
        return (n == 1 && name[0] == 'h') || (n == 4 && memcmp(name, "help", 4) == 0);
}

static int
set_switch(const struct flag *f, const char *value, struct err *e)
{
        if (value == NULL || strcmp(value, "true") == 0 || strcmp(value, "1") == 0)
                *f->is_set = true;
        else if (strcmp(value, "false") == 0 || strcmp(value, "0") == 0)
                *f->is_set = false;
        else
                return err_text(e, -EINVAL, "-%s takes true or false, not %s", f->name, value);
        return 0;
}

int
flags_parse(const struct flag *flags, int argc, char **argv, int *ret_next, bool *ret_had_dashes,
            struct err *e)
{
        int i, r = 0;

        *ret_had_dashes = false;
        for (i = 0; i < argc && r == 0 && argv[i][0] == '-' && argv[i][1] != '\0'; i++) {
                const char *name = argv[i] + (argv[i][1] == '-' ? 2 : 1), *value;
                const struct flag *f;
                size_t n;

                if (name[0] == '\0') {
                        *ret_had_dashes = true;
                        i++;
                        break;
                }
                n = strcspn(name, "=");
                value = name[n] == '=' ? name + n + 1 : NULL;
                if (is_help(name, n))
                        return 1;
                f = find(flags, name, n);
                if (f == NULL)
                        return err_text(e, -EINVAL, "unknown flag %s; -h lists those there are", argv[i]);
                if (f->value_name == NULL) {
                        r = set_switch(f, value, e);
                } else {
                        if (value == NULL && i + 1 < argc)
                                value = argv[++i];
                        if (value == NULL)
                                return err_text(e, -EINVAL, "-%s needs a value", f->name);
                        *f->value = value;
                }
        }
        *ret_next = i;
        return r;
}

void
flags_print(const struct flag *flags)
{
        for (; flags->name != NULL; flags++) {
                char left[64];

                snprintf(left, sizeof left, "-%s%s%s", flags->name, flags->value_name != NULL ? " " : "",
                         flags->value_name != NULL ? flags->value_name : "");
                printf("  %-24s %s\n", left, flags->help);
        }
}
