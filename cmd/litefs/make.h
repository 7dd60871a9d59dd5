/* cmd/litefs/make.h - what the configuration asks for, made: its lease, the sides of TLS, the proxy, what keeps past states. */
#ifndef LITEFS_CMD_MAKE_H
#define LITEFS_CMD_MAKE_H

#include "base/text.h"
#include "history/keeper.h"
#include "lease/lease.h"
#include "net/tls_context.h"
#include "proxy/proxy.h"

struct config;

/* --- make_lease.c --- */
/* @is_tried: where a candidate's lease needs a service that not every one is, that is found out now, by writing there. */
int make_lease(const struct config *c, bool is_tried, struct lease **ret, struct err *e);
/* Which one it is, and of whom, for comparison and messages. */
#define LEASE_NAME_SIZE (LEASE_KEY_SIZE + LEASE_HOSTNAME_SIZE + LEASE_URL_SIZE + 64)
void make_lease_name(const struct config *c, char buf[LEASE_NAME_SIZE]);
/* The primary of a static lease, borrowed from @c and @host. */
void make_lease_static_primary(const struct config *c, const char **ret_hostname, const char **ret_url,
                               char host[LEASE_HOSTNAME_SIZE]);

/* --- make_tls.c, as http.tls says --- */
/* *@ret_server is what the node listens with, NULL when http.tls has no certificate; *@ret_client what it follows
 * others with, *@ret_proxy what its proxy reaches theirs with, on a thread of its own. E_CONFIG, or an error about a file:
 * better no node than one that is open by mistake. */
int make_tls(const struct config *c, struct tls_context **ret_server, struct tls_context **ret_client,
             struct tls_context **ret_proxy, struct err *e);

/* --- make_proxy.c, as `proxy:` says --- */
/* *@ret is NULL when there is none to be. */
int make_proxy(const struct config *c, struct store *store, struct tls_context *tls, struct token *token,
               struct proxy **ret, struct err *e);
void proxy_add_metrics(struct proxy *p, struct text *t);

/* --- make_keeper.c, as data.history says --- */
/* NULL: past states are not to be kept, or cannot be, which is logged. */
struct keeper *make_keeper(const struct config *c, struct store *store);

#endif
