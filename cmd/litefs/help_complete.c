/* Completion of commands, flags and their values by bash, zsh and fish. */
#include <stdio.h>
#include <string.h>

#include "cmd/litefs/help_formats.h"

static bool
takes_path(const struct flag *f)
{
        return f->value_name != NULL &&
               (strcmp(f->value_name, "PATH") == 0 || strcmp(f->value_name, "DIR") == 0);
}

/* @s within single quotes, but for what @is_special says, with a backslash before it. */
static void
print_escaped(const char *s, const char *special)
{
        for (; *s != '\0'; s++) {
                if (*s == '\'')
                        printf("'\\''");
                else if (strchr(special, *s) != NULL)
                        printf("\\%c", *s);
                else
                        putchar(*s);
        }
}

/* --- bash: a function that knows the flags of each command --- */

static void
begin_bash(const struct help *program, const struct help_command *commands, size_t n)
{
        (void)program;
        printf("# bash completion for litefs; made by `litefs help -format=bash`\n"
               "_litefs() {\n"
               "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
               "    local flags='' with_path='' with_value='' actions='' operands=''\n"
               "    COMPREPLY=()\n"
               "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
               "        mapfile -t COMPREPLY < <(compgen -W '");
        for (size_t i = 0; i < n; i++)
                printf("%s%s", i > 0 ? " " : "", commands[i].name);
        printf("' -- \"$word\")\n        return\n    fi\n    case ${COMP_WORDS[1]} in\n");
}

static void
print_names(const struct flag *flags, bool (*is_wanted)(const struct flag *f))
{
        for (; flags != NULL && flags->name != NULL; flags++)
                if (is_wanted == NULL || is_wanted(flags))
                        printf(" -%s", flags->name);
}

static bool
takes_value(const struct flag *f)
{
        return f->value_name != NULL && !takes_path(f);
}

static void
print_bash(const struct help *h, const struct flag *flags)
{
        printf("    %s)\n        flags='-h", h->name);
        print_names(flags, NULL);
        printf("'\n        with_path='");
        print_names(flags, takes_path);
        printf(" '\n        with_value='");
        print_names(flags, takes_value);
        printf(" '\n        actions='");
        for (const struct help_row *a = h->actions; a != NULL && a->left != NULL; a++)
                printf("%s%s", a == h->actions ? "" : " ", a->left);
        printf("'\n        operands='%s'\n        ;;\n", h->operands != NULL ? h->operands : "");
}

/* The node is asked for its databases as the rest of the line would ask it. The first word is one; the second is a file. */
static void
print_bash_names(void)
{
        printf("# The names that litefs knows: _litefs_names databases|nodes\n"
               "_litefs_names() {\n"
               "    local -a ask=(\"${COMP_WORDS[0]}\" list -q)\n"
               "    local i name\n"
               "    [ \"$1\" = nodes ] && ask+=(-nodes)\n"
               "    for ((i = 2; i < COMP_CWORD; i++)); do\n"
               "        case ${COMP_WORDS[i]/#--/-} in\n"
               "        -url | -config | -token-file | -ca | -cert | -key) ask+=(\"${COMP_WORDS[i]}\" \"${COMP_WORDS[i + 1]}\") ;;\n"
               "        esac\n"
               "    done\n"
               "    while IFS= read -r name; do\n"
               "        [[ $name == \"$word\"* ]] && COMPREPLY+=(\"$name\")\n"
               "    done < <(\"${ask[@]}\" 2>/dev/null)\n"
               "}\n"
               "# Whether the word is the first that is no flag, behind $1 words of the command.\n"
               "_litefs_is_first() {\n"
               "    local i\n"
               "    for ((i = $1; i < COMP_CWORD; i++)); do\n"
               "        case ${COMP_WORDS[i]} in\n"
               "        -*) [[ \"$with_path$with_value\" != *\" ${COMP_WORDS[i]/#--/-} \"* ]] || i=$((i + 1)) ;;\n"
               "        *) return 1 ;;\n"
               "        esac\n"
               "    done\n"
               "}\n");
}

static void
end_bash(const struct help *program)
{
        (void)program;
        printf("    esac\n"
               "    before=${before/#--/-}\n"
               "    if [[ $with_value == *\" $before \"* ]]; then\n"
               "        return\n"
               "    elif [[ $word == -* && $with_path != *\" $before \"* ]]; then\n"
               "        mapfile -t COMPREPLY < <(compgen -W \"$flags\" -- \"${word/#--/-}\")\n"
               "    elif [[ -n $actions && $COMP_CWORD -eq 2 ]]; then\n"
               "        mapfile -t COMPREPLY < <(compgen -W \"$actions\" -- \"$word\")\n"
               "    else\n"
               "        if [[ -n $operands && $with_path != *\" $before \"* ]] && _litefs_is_first $((${#actions} > 0 ? 3 : 2)); then\n"
               "            _litefs_names \"$operands\"\n"
               "            [[ ${#COMPREPLY[@]} -eq 0 && $operands != nodes ]] || return\n"
               "        fi\n"
               "        mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
               "    fi\n"
               "}\n");
        print_bash_names();
        printf("complete -o filenames -F _litefs litefs\n");
}

const struct help_format help_bash = { "bash", begin_bash, print_bash, end_bash };

/* --- zsh: _arguments --- */

static void
begin_zsh(const struct help *program, const struct help_command *commands, size_t n)
{
        (void)program;
        printf("#compdef litefs\n# made by `litefs help -format=zsh`\n"
               "_litefs_names() {\n"
               "    local -a names ask=(list -q $@)\n"
               "    local i\n"
               "    for ((i = 1; i < CURRENT; i++)); do\n"
               "        case ${words[i]/#--/-} in\n"
               "        -url|-config|-token-file|-ca|-cert|-key) ask+=(\"${words[i]}\" \"${(Q)words[i + 1]}\") ;;\n"
               "        esac\n"
               "    done\n"
               "    names=(${(f)\"$(_call_program names litefs ${(q)ask} 2>/dev/null)\"})\n"
               "    compadd -a names\n"
               "}\n"
               "if (( CURRENT == 2 )); then\n    local -a commands=(\n");
        for (size_t i = 0; i < n; i++) {
                printf("        '%s:", commands[i].name);
                print_escaped(commands[i].summary, "");
                printf("'\n");
        }
        printf("    )\n    _describe command commands\n    return\nfi\n"
               "local command=$words[2]\nshift words\n(( CURRENT-- ))\ncase $command in\n");
}

static void
print_zsh(const struct help *h, const struct flag *flags)
{
        printf("%s)\n    _arguments '-h[explain this command]'", h->name);
        for (; flags != NULL && flags->name != NULL; flags++) {
                printf(" \\\n        '-%s[", flags->name);
                print_escaped(flags->help, "[]\\");
                printf("]");
                if (flags->value_name != NULL)
                        printf(":%s:%s", flags->value_name, takes_path(flags) ? "_files" : " ");
                printf("'");
        }
        if (h->actions != NULL) {
                printf(" \\\n        '1:action:(");
                for (const struct help_row *a = h->actions; a->left != NULL; a++)
                        printf("%s%s", a == h->actions ? "" : " ", a->left);
                printf(")'");
        }
        if (h->operands != NULL)
                printf(" \\\n        '%d:%s:{ _litefs_names%s; _files }'", h->actions != NULL ? 2 : 1,
                       h->operands, strcmp(h->operands, "nodes") == 0 ? " -nodes" : "");
        printf(" \\\n        '*:: :_files'\n    ;;\n");
}

static void
end_zsh(const struct help *program)
{
        (void)program;
        printf("esac\n");
}

const struct help_format help_zsh = { "zsh", begin_zsh, print_zsh, end_zsh };

/* --- fish: a `complete` line for each --- */

static void
begin_fish(const struct help *program, const struct help_command *commands, size_t n)
{
        (void)program;
        printf("# made by `litefs help -format=fish`\n");
        for (size_t i = 0; i < n; i++) {
                printf("complete -c litefs -n __fish_use_subcommand -f -a %s -d '", commands[i].name);
                print_escaped(commands[i].summary, "\\");
                printf("'\n");
        }
}

static void
print_fish(const struct help *h, const struct flag *flags)
{
        static const char is_seen[] = "complete -c litefs -n '__fish_seen_subcommand_from";

        printf("%s %s' -o h -d 'explain this command'\n", is_seen, h->name);
        for (const struct help_row *a = h->actions; a != NULL && a->left != NULL; a++) {
                printf("%s %s' -f -a %s -d '", is_seen, h->name, a->left);
                print_escaped(a->text, "\\");
                printf("'\n");
        }
        if (h->operands != NULL)
                printf("%s %s' -a '(command -q litefs; and litefs list -q%s 2>/dev/null)' -d '%s'\n",
                       is_seen, h->name, strcmp(h->operands, "nodes") == 0 ? " -nodes" : "",
                       h->operands);
        for (; flags != NULL && flags->name != NULL; flags++) {
                printf("%s %s' -o %s%s -d '", is_seen, h->name, flags->name,
                       flags->value_name == NULL ? ""
                       : takes_path(flags)       ? " -r"
                                                 : " -x");
                print_escaped(flags->help, "\\");
                printf("'\n");
        }
}

static void
end_fish(const struct help *program)
{
        (void)program;
}

const struct help_format help_fish = { "fish", begin_fish, print_fish, end_fish };
