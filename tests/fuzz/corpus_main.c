/* Runs a fuzz target over files and over the files of directories, for builds without libFuzzer. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/fuzz/target.h"
#include "tests/lib/files.h"

static int
run_file(const char *path)
{
        struct file_bytes b = read_file(path);
        uint8_t *exact = malloc(b.n > 0 ? b.n : 1);

        /* Of the exact size, so that a sanitizer sees a read too far. */
        memcpy(exact, b.data, b.n);
        free(b.data);
        (void)LLVMFuzzerTestOneInput(exact, b.n);
        free(exact);
        return 1;
}

static int
run_directory(const char *path)
{
        struct dirent **list;
        int n = scandir(path, &list, NULL, alphasort), n_run = 0;

        for (int i = 0; i < n; i++) {
                if (list[i]->d_name[0] != '.')
                        n_run += run_file(path_in(path, list[i]->d_name));
                free(list[i]);
        }
        free(n < 0 ? NULL : list);
        return n_run;
}

int
main(int argc, char **argv)
{
        int n = 0;

        for (int i = 1; i < argc; i++) {
                struct stat st;

                if (stat(argv[i], &st) < 0)
                        perror(argv[i]);
                else
                        n += S_ISDIR(st.st_mode) ? run_directory(argv[i]) : run_file(argv[i]);
        }
        printf("%d inputs\n", n);
        return n > 0 ? 0 : 1;
}
