/* Manual pages: litefs(1) from the commands' help, litefs.yml(5) from the table of keys and litefs.example.yml. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/litefs/config_keys.h"
#include "cmd/litefs/help_formats.h"

#ifndef LITEFS_VERSION
#define LITEFS_VERSION ""
#endif

static void
print_roff_text(const char *s, size_t n)
{
        bool is_line_start = true;

        for (size_t i = 0; i < n; i++) {
                if (is_line_start && (s[i] == '.' || s[i] == '\''))
                        printf("\\&");
                is_line_start = s[i] == '\n';
                if (s[i] == '\\')
                        printf("\\e");
                else if (s[i] == '-')
                        printf("\\-");
                else
                        putchar(s[i]);
        }
}

static void
print_roff(const char *s)
{
        print_roff_text(s, strlen(s));
}

/* --- litefs(1) --- */

static void
print_paragraphs(const char *s)
{
        const char *end;

        for (; (end = strstr(s, "\n\n")) != NULL; s = end + 2) {
                print_roff_text(s, (size_t)(end - s));
                printf("\n.PP\n");
        }
        print_roff(s);
        printf("\n");
}

static void
print_roff_rows(const struct help_row *rows)
{
        for (; rows->left != NULL; rows++) {
                printf(".TP\n.B ");
                print_roff(rows->left);
                printf("\n");
                print_roff(rows->text);
                printf("\n");
        }
}

static void
print_synopsis(const struct help *h)
{
        for (const char *form = h->synopsis; form != NULL; form = help_next_line(form)) {
                printf(form == h->synopsis ? ".B litefs %s\n" : ".br\n.B litefs %s\n", h->name);
                print_roff_text(form, strcspn(form, "\n"));
                printf(form[0] != '\0' ? "\n" : "");
        }
}

static void
print_flags(const struct flag *flags)
{
        for (; flags != NULL && flags->name != NULL; flags++) {
                printf(".TP\n\\fB\\-");
                print_roff(flags->name);
                printf("\\fR");
                if (flags->value_name != NULL)
                        printf(" \\fI%s\\fR", flags->value_name);
                printf("\n");
                print_roff(flags->help);
                printf("\n");
        }
}

static void
print_examples(const struct help_row *rows)
{
        for (; rows != NULL && rows->left != NULL; rows++) {
                printf(".PP\n");
                print_roff(rows->text);
                printf(":\n.RS\n.nf\n");
                print_roff(rows->left);
                printf("\n.fi\n.RE\n");
        }
}

static void
print_command(const struct help *h, const struct flag *flags)
{
        printf(".SS litefs %s\n", h->name);
        print_synopsis(h);
        printf(".PP\n");
        print_paragraphs(h->about);
        if (h->actions != NULL)
                print_roff_rows(h->actions);
        print_flags(flags);
        print_examples(h->examples);
        if (h->exits != NULL) {
                printf(".PP\nExit status:\n");
                print_roff_rows(h->exits);
        }
}

static void
begin_manual(const struct help *program, const struct help_command *commands, size_t n)
{
        (void)commands, (void)n;
        printf(".\\\" Made by `litefs help -format=man` from what `litefs COMMAND -h` prints.\n"
               ".TH LITEFS 1 \"\" \"litefs %s\" \"User Commands\"\n.SH NAME\n"
               "litefs \\- replicating file system for SQLite databases\n.SH SYNOPSIS\n",
               LITEFS_VERSION);
        print_synopsis(program);
        printf(".SH DESCRIPTION\n");
        print_paragraphs(program->about);
        print_roff_rows(program->actions);
        printf(".SH COMMANDS\nA flag may be written with one dash or two, and its value as the next word or behind "
               "an equals sign.\n");
}

static void
end_manual(const struct help *program)
{
        printf(".SH EXIT STATUS\nOf a command that does not say otherwise:\n");
        print_roff_rows(help_exits);
        printf(".SH EXAMPLES\n");
        print_examples(program->examples);
        printf(".SH FILES\n.TP\n.I ./litefs.yml, ~/litefs.yml, /etc/litefs.yml\n"
               "The configuration; the first that exists counts.\n"
               ".SH SEE ALSO\n.BR litefs.yml (5),\n.BR fuse (4),\n.BR sqlite3 (1)\n");
}

const struct help_format help_man = { "man", begin_manual, print_command, end_manual };

/* --- litefs.yml(5) --- */

#define DEPTH_MAX 4
#define ABOUT_MAX 4000

/* Where a walk through litefs.example.yml stands. */
struct page {
        char names[DEPTH_MAX][64]; /* of the sections around this line */
        char about[ABOUT_MAX];     /* comment lines since the last key */
        bool in_group;             /* keys that follow one another share a text */
};

static void
add_comment(struct page *p, const char *text)
{
        size_t n = strlen(p->about);

        text += strspn(text, "# ");
        snprintf(p->about + n, sizeof p->about - n, "%s%s", n > 0 ? "\n" : "", text);
}

/* A heading of several keys has its text behind the last, so the text is kept until then. */
static void
flush_about(struct page *p)
{
        if (p->in_group && p->about[0] != '\0') {
                print_roff(p->about);
                printf("\n");
        }
        p->about[0] = '\0';
        p->in_group = false;
}

/* Some values of the example are no defaults, because there is none. */
static bool
is_default(const struct config_key *k, const char *value)
{
        return k->type != T_EXEC && strcmp(value, "\"\"") != 0 && strcmp(value, "[]") != 0 &&
               (k->type != T_STRING || (k->text[0] != '\0' && strstr(value, k->text) != NULL));
}

static void
print_key(struct page *p, const struct config_key *k, const char *value)
{
        printf(p->in_group ? ".TQ\n\\fB" : ".TP\n\\fB");
        print_roff(k->path);
        printf("\\fR (");
        print_roff(config_type_text(k->type));
        if (is_default(k, value)) {
                printf("; default ");
                print_roff(value);
        }
        printf(")\n");
        p->in_group = true;
}

static void
take_key(struct page *p, char *line)
{
        size_t depth = strspn(line, " ") / 2, n = 0;
        char path[DEPTH_MAX * 64] = "", *name = line + strspn(line, " "), *value = strchr(name, ':');
        const struct config_key *k;

        if (value == NULL || depth >= DEPTH_MAX)
                return;
        *value++ = '\0';
        value += strspn(value, " ");
        snprintf(p->names[depth], sizeof p->names[depth], "%s", name);
        for (size_t i = 0; i <= depth; i++)
                n += (size_t)snprintf(path + n, sizeof path - n, "%s%s", i > 0 ? "." : "", p->names[i]);
        k = config_find_key(path);
        if (k != NULL) {
                print_key(p, k, value);
                return;
        }
        flush_about(p);
        printf(".SS %s\n", path);
}

static void
take_line(struct page *p, char *line)
{
        const char *text = line + strspn(line, " ");

        line[strcspn(line, "\n")] = '\0';
        if (text[0] == '#') {
                if (p->in_group)
                        flush_about(p);
                add_comment(p, text);
        } else if (text[0] == '\0') {
                if (!p->in_group && p->about[0] != '\0') { /* the file's own heading */
                        print_roff(p->about);
                        printf("\n.SH KEYS\n");
                }
                flush_about(p);
        } else {
                take_key(p, line);
        }
}

int
help_print_config_page(const char *path, struct err *e)
{
        FILE *f = fopen(path, "re");
        struct page p = { 0 };
        char *line = NULL;
        size_t size = 0;

        if (f == NULL)
                return err_set(e, -errno, "open %s", path);
        printf(".\\\" Made by `litefs help -config-page litefs.example.yml`.\n"
               ".TH LITEFS.YML 5 \"\" \"litefs %s\" \"File Formats\"\n.SH NAME\n"
               "litefs.yml \\- configuration of litefs\n.SH DESCRIPTION\n"
               "litefs reads the file that \\-config names, else the first of ./litefs.yml, ~/litefs.yml and\n"
               "/etc/litefs.yml that exists. A file that is wrong is refused with its line and key.\n.PP\n",
               LITEFS_VERSION);
        while (getline(&line, &size, f) > 0)
                take_line(&p, line);
        flush_about(&p);
        printf(".SH SEE ALSO\n.BR litefs (1)\n");
        free(line);
        fclose(f);
        return 0;
}
