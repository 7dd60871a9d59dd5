/* /metrics: the process, under the names that all exporters use. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "http/api_internal.h"
#include "http/prom.h"

static unsigned
count_fds(void)
{
        DIR *d = opendir("/proc/self/fd");
        unsigned n = 0;

        if (d == NULL)
                return 0;
        while (readdir(d) != NULL)
                n++;
        closedir(d);
        return n > 3 ? n - 3 : 0; /* ".", ".." and the directory itself */
}

/* In seconds since 1970; what the process's start is told against. */
static double
boot_time(void)
{
        struct timespec wall, boot;

        clock_gettime(CLOCK_REALTIME, &wall);
        clock_gettime(CLOCK_BOOTTIME, &boot);
        return (double)(wall.tv_sec - boot.tv_sec) + (double)(wall.tv_nsec - boot.tv_nsec) / 1e9;
}

void
metrics_add_process(struct prom *p)
{
        unsigned long utime = 0, stime = 0, vsize = 0;
        unsigned long long start = 0;
        long rss_pages = 0;
        FILE *f = fopen("/proc/self/stat", "re");
        char line[1024], *rest = NULL;
        struct rlimit fds;

        if (f != NULL && fgets(line, sizeof line, f) != NULL)
                rest = strrchr(line, ')');
        if (rest != NULL &&
            sscanf(rest,
                   ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d %*d %llu %lu %ld",
                   &utime, &stime, &start, &vsize, &rss_pages) == 5) {
                prom_family(p, "process_cpu_seconds_total", "counter", "CPU time of the process.");
                prom_real(p, (double)(utime + stime) / (double)sysconf(_SC_CLK_TCK), NULL);
                prom_gauge(p, "process_resident_memory_bytes", "Resident memory.",
                           (uint64_t)rss_pages * (uint64_t)sysconf(_SC_PAGESIZE));
                prom_gauge(p, "process_virtual_memory_bytes", "Virtual memory.", vsize);
                prom_family(p, "process_start_time_seconds", "gauge",
                            "When the process began, in seconds since 1970.");
                prom_real(p, boot_time() + (double)start / (double)sysconf(_SC_CLK_TCK), NULL);
        }
        if (f != NULL)
                fclose(f);
        prom_gauge(p, "process_open_fds", "Open file descriptors.", count_fds());
        if (getrlimit(RLIMIT_NOFILE, &fds) == 0)
                prom_gauge(p, "process_max_fds", "Most file descriptors that may be open.",
                           fds.rlim_cur);
}
