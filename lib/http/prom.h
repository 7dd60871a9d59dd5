/* lib/http/prom.h - metrics in Prometheus' text format (version 0.0.4).
 *
 * A family first, then its samples, all of a family together. Labels are name, value, name, value, NULL; values may
 * be any text. */
#ifndef LITEFS_HTTP_PROM_H
#define LITEFS_HTTP_PROM_H

#include "base/histogram.h"
#include "base/text.h"

#define PROM_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* @type: "gauge", "counter" or "histogram". @name is borrowed until the next family. */
struct prom {
        struct text *t;
        const char *name;
};
void prom_family(struct prom *p, const char *name, const char *type, const char *help);
void prom_int(struct prom *p, uint64_t value, const char *const *labels);
void prom_real(struct prom *p, double value, const char *const *labels);

/* A family of one sample without labels. */
void prom_gauge(struct prom *p, const char *name, const char *help, uint64_t value);
void prom_counter(struct prom *p, const char *name, const char *help, uint64_t value);
/* In seconds. */
void prom_histogram(struct prom *p, const char *name, const char *help, const struct histogram *h);

#define PROM_LABELS(...) ((const char *const[]){ __VA_ARGS__, NULL })

#endif
