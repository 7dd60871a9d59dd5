#include "http/prom.h"

#include <inttypes.h>
#include <math.h>

#include "base/utf8.h"

void
prom_family(struct prom *p, const char *name, const char *type, const char *help)
{
        p->name = name;
        text_printf(p->t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void
add_escaped(struct text *t, const char *s)
{
        while (*s != '\0') {
                size_t n = utf8_length(s);

                if (n == 0)
                        text_printf(t, "\\\\x%02x", (unsigned char)*s);
                else if (*s == '\n')
                        text_add(t, "\\n", 2);
                else if (*s == '"' || *s == '\\')
                        text_printf(t, "\\%c", *s);
                else
                        text_add(t, s, n);
                s += n > 0 ? n : 1;
        }
}

static void
add_series(struct prom *p, const char *const *labels)
{
        text_printf(p->t, "%s", p->name);
        for (int i = 0; labels != NULL && labels[i] != NULL; i += 2) {
                text_printf(p->t, "%s%s=\"", i == 0 ? "{" : ",", labels[i]);
                add_escaped(p->t, labels[i + 1]);
                text_add(p->t, "\"", 1);
        }
        if (labels != NULL && labels[0] != NULL)
                text_add(p->t, "}", 1);
}

void
prom_int(struct prom *p, uint64_t value, const char *const *labels)
{
        add_series(p, labels);
        text_printf(p->t, " %" PRIu64 "\n", value);
}

void
prom_real(struct prom *p, double value, const char *const *labels)
{
        add_series(p, labels);
        if (isinf(value))
                text_printf(p->t, " %cInf\n", value > 0 ? '+' : '-');
        else
                text_printf(p->t, " %.9g\n", value);
}

void
prom_gauge(struct prom *p, const char *name, const char *help, uint64_t value)
{
        prom_family(p, name, "gauge", help);
        prom_int(p, value, NULL);
}

void
prom_counter(struct prom *p, const char *name, const char *help, uint64_t value)
{
        prom_family(p, name, "counter", help);
        prom_int(p, value, NULL);
}

void
prom_histogram(struct prom *p, const char *name, const char *help, const struct histogram *h)
{
        uint64_t total = 0;

        prom_family(p, name, "histogram", help);
        for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
                total += atomic_load_explicit(&h->counts[i], memory_order_relaxed);
                if (i + 1 < HISTOGRAM_BUCKETS)
                        text_printf(p->t, "%s_bucket{le=\"%.9g\"} %" PRIu64 "\n", name,
                                    (double)(1u << i) / 1e6, total);
                else
                        text_printf(p->t, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, total);
        }
        text_printf(p->t, "%s_sum %.9g\n%s_count %" PRIu64 "\n", name,
                    (double)atomic_load_explicit(&h->sum_ns, memory_order_relaxed) / 1e9, name, total);
}
