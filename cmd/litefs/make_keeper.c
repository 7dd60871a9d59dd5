#include "base/log.h"
#include "cmd/litefs/config.h"
#include "cmd/litefs/make.h"

#define KEEP_EVERY_MS 60000 /* unless the log's retention has an interval */

struct keeper *
make_keeper(const struct config *c, struct store *store)
{
        const int64_t interval_ms = config_to_ms(c->data.retention_monitor_interval_ns);
        const struct keeper_config config = {
                .store = store,
                .keep_ms = config_to_ms(c->data.history_ns),
                .max_bytes = (uint64_t)c->data.history_size_bytes,
                .interval_ms = interval_ms > 0 ? interval_ms : KEEP_EVERY_MS,
        };
        struct keeper *keeper = NULL;
        struct err e = ERR_INIT;

        if (c->data.history_ns > 0 && keeper_new(&config, &keeper, &e) < 0)
                log_error(
                        "the logs grow without end, for nobody looks after past states; restart litefs: %s",
                        e.text);
        return keeper;
}
