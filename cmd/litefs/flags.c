#include "cmd/litefs/flags.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/litefs/similar.h"

static const struct flag *
find_flag(const struct flag *flags, const char *name, size_t n)
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
                return err_text(e, -EINVAL, "flag -%s takes true or false, not %s", f->name, value);
        return 0;
}

static int
fail_unknown_flag(const struct flag *flags, const char *word, const char *name, size_t n, struct err *e)
{
        char given[64];
        struct similar near;

        snprintf(given, sizeof given, "%.*s", (int)n, name);
        near = similar_to(given);
        for (; n > 0 && flags->name != NULL; flags++)
                similar_offer(&near, flags->name, strlen(flags->name));
        if (near.best == NULL)
                return err_text(e, -EINVAL, "unknown flag %s", word);
        return err_text(e, -EINVAL, "unknown flag %s (did you mean -%s?)", word, near.best);
}

/* The flag at @argv[*i], which may take the next word too: as flags_parse. */
static int
take_flag_word(const struct flag *flags, int argc, char **argv, int *i, const char **ret_help,
               struct err *e)
{
        const char *word = argv[*i], *name = word + (word[1] == '-' ? 2 : 1), *value;
        size_t n = strcspn(name, "=");
        const struct flag *f = find_flag(flags, name, n);

        value = name[n] == '=' ? name + n + 1 : NULL;
        if (f == NULL && is_help(name, n)) {
                *ret_help = value != NULL ? value : "";
                return 1;
        }
        if (f == NULL)
                return fail_unknown_flag(flags, word, name, n, e);
        if (f->value_name == NULL)
                return set_switch(f, value, e);
        if (value == NULL && *i + 1 < argc)
                value = argv[++*i];
        if (value == NULL)
                return err_text(e, -EINVAL, "flag -%s needs a value: %s", f->name, f->value_name);
        *f->value = value;
        return 0;
}

int
flags_parse(const struct flag *flags, int argc, char **argv, struct flag_words *ret, struct err *e)
{
        int end = 0, r = 0;

        while (end < argc && strcmp(argv[end], "--") != 0)
                end++;
        *ret = (struct flag_words){
                .words = argv, .rest = argv + end, .has_dashes = end < argc, .help = ""
        };
        if (ret->has_dashes) {
                ret->rest++;
                ret->n_rest = argc - end - 1;
        }
        for (int i = 0; i < end && r == 0; i++) {
                if (argv[i][0] != '-' || argv[i][1] == '\0')
                        ret->words[ret->n++] = argv[i];
                else
                        r = take_flag_word(flags, end, argv, &i, &ret->help, e);
        }
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
