#include "cmd/litefs/help.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/litefs/command.h"
#include "cmd/litefs/help_formats.h"

const struct help_row help_exits[] = {
        { "0", "done, or this help was asked for" },
        { "1", "failed; the reason is the line on stderr that begins with ERROR:" },
        { "2", "an argument is wrong or missing" },
        { 0 },
};

/* --- text --- */

static void
print_help_rows(const char *title, const struct help_row *rows)
{
        if (rows == NULL)
                return;
        printf("\n%s:\n\n", title);
        for (; rows->left != NULL; rows++)
                printf("  %-24s %s\n", rows->left, rows->text);
}

static void
print_usage(const struct help *h)
{
        const char *form = h->synopsis;

        printf("%s\n\nUsage:\n\n", h->about);
        for (; form != NULL; form = help_next_line(form))
                printf("    litefs%s%s %.*s\n", h->name[0] != '\0' ? " " : "", h->name,
                       (int)strcspn(form, "\n"), form);
}

static void
print_help_text(const struct help *h, const struct flag *flags)
{
        print_usage(h);
        print_help_rows(h->name[0] != '\0' ? "The actions are" : "The commands are", h->actions);
        if (flags != NULL && flags->name != NULL) {
                printf("\nThe flags are:\n\n");
                flags_print(flags);
        }
        if (h->examples != NULL) {
                printf("\nExamples:\n");
                for (const struct help_row *x = h->examples; x->left != NULL; x++)
                        printf("\n    # %s\n    %s\n", x->text, x->left);
        }
        print_help_rows("Exit status", h->exits != NULL ? h->exits : help_exits);
}

/* --- all formats --- */

static const struct help_format text = { "", NULL, print_help_text, NULL };
static const struct help_format *const formats[] = { &text, &help_man, &help_bash, &help_zsh,
                                                     &help_fish };
#define N_FORMATS (sizeof formats / sizeof formats[0])

static const struct help_format *
find_format(const char *name)
{
        for (size_t i = 0; i < N_FORMATS; i++)
                if (strcmp(formats[i]->name, name) == 0)
                        return formats[i];
        return NULL;
}

const char *
help_next_line(const char *s)
{
        s = strchr(s, '\n');
        return s == NULL ? NULL : s + 1;
}

int
help_print(const struct help *h, const struct flag *flags, const char *format)
{
        const struct help_format *f = find_format(format);

        (f != NULL ? f : &text)->print_command(h, flags);
        return 0;
}

int
help_mistake(const char *name, const char *what)
{
        fprintf(stderr, "ERROR: litefs %s: %s; run `litefs %s -h` for help\n", name, what, name);
        return EXIT_USAGE;
}

int
help_generate(const struct help *program, const struct help_command *commands, size_t n,
              const char *format, struct err *e)
{
        const struct help_format *f = find_format(format);
        char ask[32], *argv[] = { ask, NULL };

        if (f == NULL || f->begin == NULL)
                return err_text(e, -EINVAL, "-format is man, bash, zsh or fish, not %s", format);
        f->begin(program, commands, n);
        for (size_t i = 0; i < n; i++) {
                snprintf(ask, sizeof ask, "-help=%s", format);
                (void)commands[i].fn(1, argv);
        }
        f->end(program);
        return 0;
}
